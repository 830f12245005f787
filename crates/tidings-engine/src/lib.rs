//! The Hub: window, tail, subscriptions, draining and limits over any log
