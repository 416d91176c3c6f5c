//! The fuzzer: libFuzzer around one target, which the environment names. `cargo xtask fuzz` builds and runs it.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::{env, fs, path::Path, process, sync::OnceLock};

use waggle_fuzz::{TARGETS, Target};

/// The target's name.
const TARGET: &str = "WAGGLE_FUZZ_TARGET";
/// A folder to write its seeds to, before the fuzzer reads its corpus.
const SEEDS: &str = "WAGGLE_FUZZ_SEEDS";
/// A file to write its dictionary to.
const WORDS: &str = "WAGGLE_FUZZ_WORDS";

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = env::var(TARGET).unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            fail(&format!("{TARGET} is {name:?}, expected one of {}", names.join(", ")))
        })
    })
}

fn prepare() {
    let target = target();
    let write = |file: &Path, bytes: &[u8]| {
        if let Err(error) = fs::write(file, bytes) {
            fail(&format!("cannot write {}: {error}", file.display()));
        }
    };
    if let Some(folder) = env::var_os(SEEDS) {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            write(&Path::new(&folder).join(format!("seed-{number:02}")), seed);
        }
    }
    if let Some(file) = env::var_os(WORDS) {
        write(Path::new(&file), waggle_fuzz::dictionary(target).as_bytes());
    }
}

fn fail(why: &str) -> ! {
    eprintln!("waggle-fuzz: {why}");
    process::exit(64)
}

libfuzzer_sys::fuzz_target!(init: prepare(), |data: &[u8]| (target().run)(data));
