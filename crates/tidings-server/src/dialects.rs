//! The dialects that are part of every binary. Each is there when the configuration has its table,
//! `[adapters.<name>]`; without it, it has no port, no routes and no cost.

use serde::de::DeserializeOwned;
use tidings_adapter::Adapter;
use tidings_adapter_airsend::{Airsend, AirsendOptions};
use tidings_adapter_burokratt::{Burokratt, BurokrattOptions};
use tidings_adapter_cardsavr::{Cardsavr, CardsavrOptions};
use tidings_adapter_zaikio::{Zaikio, ZaikioOptions};

use crate::app::Part;
use crate::config::Mistakes;
use crate::config::report::Mistake;

/// Their names, in the order of their ports.
pub(crate) const NAMES: [&str; 4] = ["zaikio", "airsend", "burokratt", "cardsavr"];

/// How each is made of its part of the configuration.
pub(crate) fn parts() -> Vec<Part> {
    let [zaikio, airsend, burokratt, cardsavr] = NAMES;
    vec![
        part(zaikio, |options: ZaikioOptions| Zaikio::new(options)),
        part(airsend, |options: AirsendOptions| Airsend::new(options)),
        part(burokratt, |options: BurokrattOptions| {
            Burokratt::new(options)
        }),
        part(cardsavr, |options: CardsavrOptions| Cardsavr::new(&options)),
    ]
}

fn part<T, A, E>(name: &'static str, make: fn(T) -> Result<A, E>) -> Part
where
    T: DeserializeOwned + 'static,
    A: Adapter,
    E: std::error::Error + 'static,
{
    Part {
        name,
        make: Box::new(move |loaded| {
            let adapter = make(loaded.options::<T>(name)?).map_err(|error| {
                let key = format!("adapters.{name}");
                Mistakes(vec![Mistake::plain(&key, error.to_string())])
            })?;
            Ok(Box::new(adapter))
        }),
    }
}

#[cfg(test)]
#[path = "dialects_tests.rs"]
mod tests;
