//! An event in the window, and its bodies: printed once per protocol variant, shared by all.

use std::sync::OnceLock;

use bytes::Bytes;
use tidings_core::{Event, Printed, Variant};

/// An event as connections share it.
#[derive(Debug)]
pub struct Delivered {
    event: Event,
    prints: OnceLock<Box<Print>>,
}

/// One printed body and the next one: a list that only grows, so that readers need no lock. It has
/// as many links as adapters have variants that somebody is subscribed with.
#[derive(Debug)]
struct Print {
    variant: &'static str,
    body: Bytes,
    next: OnceLock<Box<Self>>,
}

impl Delivered {
    /// Wraps an event.
    #[must_use]
    pub fn new(event: Event) -> Self {
        Self {
            event,
            prints: OnceLock::new(),
        }
    }

    /// Bytes it may hold, with one printed body: for the window's bound.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.event.weight() + self.event.data.len()
    }
}

impl Printed for Delivered {
    fn event(&self) -> &Event {
        &self.event
    }

    fn printed(&self, variant: Variant) -> Bytes {
        let mut link = &self.prints;
        loop {
            let print = link.get_or_init(|| {
                Box::new(Print {
                    variant: variant.name,
                    body: (variant.print)(&self.event),
                    next: OnceLock::new(),
                })
            });
            if print.variant == variant.name {
                return print.body.clone();
            }
            link = &print.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tidings_core::{EventId, Prev, Topic};

    #[test]
    fn a_body_is_printed_once_per_variant() {
        static PRINTS: AtomicUsize = AtomicUsize::new(0);
        fn loud(event: &Event) -> Bytes {
            PRINTS.fetch_add(1, Ordering::Relaxed);
            event.data.clone()
        }
        let quiet = Variant {
            name: "quiet",
            print: |_| Bytes::from_static(b"q"),
        };
        let loud = Variant {
            name: "loud",
            print: loud,
        };
        let delivered = Delivered::new(Event {
            id: EventId::ORIGIN,
            prev: Prev::Unknown,
            topic: Topic::parse("a").expect("valid"),
            kind: "k".into(),
            data: Bytes::from_static(b"1"),
            attributes: None,
        });
        for _ in 0..3 {
            assert_eq!(delivered.printed(loud), "1");
            assert_eq!(delivered.printed(quiet), "q");
        }
        assert_eq!(PRINTS.load(Ordering::Relaxed), 1);
    }
}
