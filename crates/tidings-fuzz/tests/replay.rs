//! The fuzz targets without a fuzzer: on their seeds, on mutations of them, and on plain noise.
//!
//! The bytes come from a seed, which is printed when a target fails and can be given as
//! `TIDINGS_FUZZ_SEED`; `TIDINGS_FUZZ_INPUTS` says how many there are for each target.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tidings_fuzz::{TARGETS, Target};

/// For each target: some seconds of an unoptimised build.
const INPUTS: usize = 30_000;
/// Bytes of an input of plain noise.
const NOISE: usize = 200;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(target: Target) -> Result<Vec<Vec<u8>>> {
    let folder = fuzz().join("seeds").join(target.name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_>>()?;
    files.sort_unstable();
    ensure!(!files.is_empty(), "{} has no seed", target.name);
    files
        .into_iter()
        .map(|file| std::fs::read(&file).with_context(|| file.display().to_string()))
        .collect()
}

fn run(target: Target, input: &[u8], seed: u64) -> Result<()> {
    let done = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    ensure!(
        done.is_ok(),
        "{} fails on b\"{}\" (TIDINGS_FUZZ_SEED={seed})",
        target.name,
        input.escape_ascii()
    );
    Ok(())
}

/// Overwrites, drops, doubles, inserts, and joins with another seed.
fn mutated(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    /// What parsers care about.
    const SPICE: &[u8] = b"\0\n\r \t%&=?,:;/\\\"'{}[]<>*-+.0129eE\x7f\x80\xff\xc3\xe2";
    let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let any = if rng.random() {
            SPICE[rng.random_range(0..SPICE.len())]
        } else {
            rng.random()
        };
        match (rng.random_range(0..6), at < bytes.len()) {
            (0, true) => bytes[at] = any,
            (1, true) => drop(bytes.remove(at)),
            (2, true) => bytes.truncate(at),
            (3, _) => {
                let again = bytes[at / 2..at].to_vec();
                bytes.splice(at..at, again);
            }
            (4, _) => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                let from = rng.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => bytes.insert(at, any),
        }
    }
    bytes
}

fn replay(name: &str) -> Result<()> {
    let target = TARGETS.into_iter().find(|target| target.name == name);
    let target = target.context("no such target")?;
    let seed = number("TIDINGS_FUZZ_SEED").unwrap_or_else(|| rand::rng().next_u64());
    let inputs = number("TIDINGS_FUZZ_INPUTS").map_or(INPUTS, |count| count as usize);
    let mut rng = StdRng::seed_from_u64(seed);
    let seeds = seeds(target)?;
    for seed_bytes in &seeds {
        run(target, seed_bytes, seed)?;
    }
    for n in 0..inputs {
        let input = if n % 4 == 0 {
            let mut noise = vec![0; rng.random_range(0..NOISE)];
            rng.fill_bytes(&mut noise);
            noise
        } else {
            mutated(&mut rng, &seeds)
        };
        run(target, &input, seed)?;
    }
    Ok(())
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() -> Result<()> {
            replay(stringify!($target))
        })*

        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replays! {
    topic cursor publish lines parameters credentials token keys entries ingest session airsend_frame burokratt envelope
}

#[test]
fn every_target_has_its_binary_its_seeds_and_its_test() -> Result<()> {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
    let manifest: toml::Table = std::fs::read_to_string(fuzz().join("Cargo.toml"))?.parse()?;
    let binaries = manifest["bin"].as_array().context("binaries")?;
    let binaries: Vec<&str> = binaries
        .iter()
        .filter_map(|binary| binary["name"].as_str())
        .collect();
    assert_eq!(binaries, names);
    for target in TARGETS {
        let file = fuzz().join(format!("fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(&file)?;
        let call = format!("tidings_fuzz::{}(input)", target.name);
        ensure!(text.contains(&call), "{} does not {call}", file.display());
        seeds(target)?;
    }
    Ok(())
}
