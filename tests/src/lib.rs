//! Support for the tests that start real processes.
