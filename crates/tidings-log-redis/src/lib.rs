//! The log on Redis Streams: single, Sentinel and Cluster
