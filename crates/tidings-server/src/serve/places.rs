//! Places: how many connections there may be, over all and from one address.
//!
//! A place goes wherever the connection's socket goes, also past an upgrade to a websocket, and is
//! free again when that is dropped. On an HTTP/2 connection every request beside another one takes a
//! place, too: else one connection would be a hundred clients.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places of an instance. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// There are as many connections as there may be.
    Full,
    /// There are as many from this address.
    Address,
}

/// One place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _slot: Option<Slot>,
    gauge: IntGauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Places {
    /// So many, and so many from one address; 0 is no such limit.
    pub(super) fn new(all: usize, per_address: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            addresses: Arc::new(Addresses {
                max: per_address,
                taken: Mutex::default(),
            }),
        }
    }

    /// A place for someone at this address, counted by `gauge` while it is taken.
    pub(super) fn take(&self, peer: IpAddr, gauge: &IntGauge) -> Result<Place, NoPlace> {
        let slot = self.addresses.take(peer)?;
        let permit = self.all.clone().try_acquire_owned();
        let permit = permit.map_err(|_| NoPlace::Full)?;
        gauge.inc();
        Ok(Place {
            _permit: permit,
            _slot: slot,
            gauge: gauge.clone(),
        })
    }
}

/// Places taken by address. There are never more addresses in it than connections.
#[derive(Debug)]
struct Addresses {
    max: usize,
    /// Locked for one look-up at a time, and nothing waits meanwhile.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Addresses {
    fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Option<Slot>, NoPlace> {
        if self.max == 0 {
            return Ok(None);
        }
        let address = network(peer);
        let mut taken = self.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.max {
            return Err(NoPlace::Address);
        }
        *count += 1;
        drop(taken);
        Ok(Some(Slot {
            addresses: self.clone(),
            address,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the places of an address.
#[derive(Debug)]
struct Slot {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.addresses.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Who is counted as one. Whoever has an IPv6 address has 2^64 of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_counted_and_come_back() {
        let gauge = IntGauge::new("open", "open").expect("a gauge");
        let places = Places::new(4, 2);
        let take = |text| places.take(ip(text), &gauge);
        let first = take("10.0.0.1").expect("free");
        let second = take("::ffff:10.0.0.1").expect("free");
        assert_eq!(take("10.0.0.1").expect_err("taken"), NoPlace::Address);
        let third = take("2001:db8::1").expect("free");
        let fourth = take("2001:db8::2:1").expect("free");
        assert_eq!(
            take("2001:db8::3").expect_err("one network"),
            NoPlace::Address
        );
        assert_eq!(take("10.0.0.2").expect_err("full"), NoPlace::Full);
        assert_eq!(gauge.get(), 4);
        drop(first);
        drop(take("10.0.0.2").expect("free again"));
        drop((second, third, fourth));
        assert_eq!(gauge.get(), 0);
        assert!(
            places.addresses.lock().is_empty(),
            "nothing is left of them"
        );
    }

    #[test]
    fn no_limit_per_address() {
        let gauge = IntGauge::new("open", "open").expect("a gauge");
        let places = Places::new(3, 0);
        let all: Vec<_> = (0..3)
            .map(|_| places.take(ip("::1"), &gauge).expect("free"))
            .collect();
        assert_eq!(
            places.take(ip("::1"), &gauge).expect_err("full"),
            NoPlace::Full
        );
        drop(all);
    }
}
