//! `tidings-bench`: a load generator for a running hub.
fn main() {}
