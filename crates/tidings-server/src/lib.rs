//! The tidings server: native API, configuration, authentication and the command line
