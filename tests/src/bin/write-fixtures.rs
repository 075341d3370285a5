//! Writes the frozen stores of the present format: once, when a format is new.
//!
//! ```text
//! cargo run -p ebbtide-tests --bin write-fixtures -- tests/fixtures/v4
//! ```
//!
//! Promises: a folder that exists is left alone. The store that was not closed is copied while its
//! engine is open and at rest: what a killed process leaves.
//! Exit codes: 0 written, 1 something failed, 2 a wrong argument.

use ebbtide_tests::frozen;
use ebbtide_tests::setting::PATIENCE;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

fn main() -> ExitCode {
    let Some(to) = env::args_os().nth(1).map(PathBuf::from).filter(|to| !to.exists()) else {
        eprintln!("usage: write-fixtures FOLDER, which must not exist");
        return ExitCode::from(2);
    };
    match write(&to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(to: &Path) -> Result<(), Box<dyn Error>> {
    for (name, shards, closed) in frozen::STORES {
        let (store, packed) = (to.join(format!("{name}.tmp")), to.join(name));
        let engine = frozen::builder(&store, shards).open()?;
        frozen::record(&engine);
        fs::write(to.join(format!("{name}.answers")), frozen::answers(&engine))?;
        if closed {
            engine.close(PATIENCE)?;
        } else {
            // Its log renames and removes files for a while.
            std::thread::sleep(Duration::from_secs(1));
        }
        frozen::pack(&store, &packed)?;
        drop(engine);
        fs::remove_dir_all(&store)?;
    }
    Ok(())
}
