//! The dialects that are part of every binary. Each is there when the configuration has its table,
//! `[adapters.<name>]`; without it, it has no port, no routes and no cost.

use serde::de::DeserializeOwned;
use tidings_adapter::Adapter;
use tidings_adapter_cardsavr::{Cardsavr, CardsavrOptions};
use tidings_adapter_zaikio::{Zaikio, ZaikioOptions};

use crate::app::Part;
use crate::config::Mistakes;
use crate::config::report::Mistake;

/// Their names, in the order of their ports.
pub(crate) const NAMES: [&str; 2] = ["zaikio", "cardsavr"];

/// How each is made of its part of the configuration.
pub(crate) fn parts() -> Vec<Part> {
    let [zaikio, cardsavr] = NAMES;
    vec![
        part(zaikio, |options: ZaikioOptions| Zaikio::new(options)),
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in the message of serde that there is no such key.
    fn known<T: DeserializeOwned>() -> BTreeSet<String> {
        let unknown = toml::from_str::<T>("x = 1").map(drop);
        let unknown = unknown.expect_err("no such key").to_string();
        let names = unknown.split('`').skip(3).step_by(2);
        names.map(str::to_owned).collect()
    }

    fn keys(table: &toml::Value) -> BTreeSet<String> {
        table.as_table().expect("a table").keys().cloned().collect()
    }

    /// `config/cardsavr.toml` names every key with its default.
    #[test]
    fn cardsavrs_example_is_good_and_whole() {
        let text = include_str!("../../../config/cardsavr.toml");
        let file: toml::Table = toml::from_str(text).expect("TOML");
        let mut table = file["adapters"]["cardsavr"].clone();
        let own = table.as_table_mut().expect("a table");
        own.remove("mount").expect("it says where it listens");
        assert_eq!(keys(&table), known::<CardsavrOptions>());
        assert_eq!(
            keys(&table["timers"]),
            known::<tidings_adapter_cardsavr::Timers>()
        );
        let options: CardsavrOptions = table.try_into().expect("every key fits");
        assert_eq!(options.integrators.len(), 1);
        assert_eq!(options.users.len(), 2);
        // What is not set is an empty text there.
        let example = CardsavrOptions {
            integrators: Default::default(),
            users: Default::default(),
            webhook_url: options.webhook_url.filter(|url| !url.is_empty()),
            webhook_integrator: options.webhook_integrator.filter(|name| !name.is_empty()),
            ..options
        };
        let defaults = CardsavrOptions::default();
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
    }
}
