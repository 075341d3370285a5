//! A process that records is killed without a warning; what it was told is durable is there again.
//!
//! This program runs twice: it starts itself once more as the one that records, kills that one with
//! SIGKILL after some acknowledgements, and opens the store it left behind.

use ebbtide::{Ack, Engine, EntityId, Event, Schema};
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]";
const PATIENCE: Duration = Duration::from_secs(10);
/// Acknowledgements to wait for before the recorder is killed.
const ACKNOWLEDGED: usize = 200;
const PAGES: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(directory) = std::env::args_os().nth(1) {
        return record(Path::new(&directory));
    }
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("store");
    let acknowledged = kill_a_recorder(&directory)?;

    let engine = Engine::builder(&directory).schema(Schema::from_toml(SCHEMA)?).open()?;
    let recovery = engine.recovery().expect("it has a store");
    println!("the recorder was killed after {acknowledged} acknowledgements");
    println!("{} events were read back from its logs", recovery.events_read);
    let view = engine.schema().signal("view").expect("the schema above has it");
    let mut reader = engine.reader()?;
    let mut found = 0;
    for page in 0..PAGES {
        let reading = reader.read(EntityId(page), view, engine.now())?;
        found += reading.map_or(0, |reading| reading.all_time);
    }
    // More may be there: events whose acknowledgement was still on its way.
    assert!(found >= acknowledged, "{found} views, and {acknowledged} were acknowledged");
    println!("{found} views are there: nothing that was acknowledged is lost");
    engine.close(PATIENCE)?;
    Ok(())
}

/// Starts this program as a recorder, and kills it in the middle of its work. Gives the number of
/// events that it was told are durable.
fn kill_a_recorder(directory: &Path) -> Result<u64, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let mut recorder = Command::new(program).arg(directory).stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(recorder.stdout.take().expect("it is piped"));
    let mut lines = output.lines();
    let mut last =
        lines.by_ref().take(ACKNOWLEDGED).last().ok_or("the recorder said nothing")??;
    recorder.kill()?;
    recorder.wait()?;
    // What it said before it died counts too.
    for line in lines {
        last = line?;
    }
    Ok(last.parse()?)
}

/// Records until it is killed, and says after each event how many are durable.
fn record(directory: &Path) -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder(directory).schema(Schema::from_toml(SCHEMA)?).open()?;
    let view = engine.schema().signal("view").expect("the schema above has it");
    let mut producer = engine.producer()?;
    let mut output = std::io::stdout().lock();
    for n in 1.. {
        let event = Event::new(EntityId(n % PAGES), view, engine.now());
        let ticket = producer.offer_within(event, PATIENCE)?;
        producer.wait(ticket, Ack::Durable, PATIENCE)?;
        writeln!(output, "{n}")?;
        output.flush()?;
    }
    Ok(())
}
