//! The reference log: one process, nothing on disk, the same promises as the Redis log
