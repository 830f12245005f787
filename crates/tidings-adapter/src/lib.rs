//! What the author of a protocol adapter depends on: the Hub, sessions, and the drivers that perform them
