//! A summary as a person reads it: one fact a line, numbers in the unit one would choose.

use super::{Opening, Percentiles, Summary};
use std::fmt;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "input     {}", self.input)?;
        let (shards, backend, why) = (self.shards, self.backend, &self.backend_why);
        writeln!(f, "engine    {shards} shard(s) on {backend} ({why})")?;
        self.write_store(f)?;
        self.write_events(f)?;
        self.write_latencies(f)?;
        if let Some(bytes) = self.bytes_per_event {
            let written = grouped(self.log_bytes / 1024);
            writeln!(f, "log       {written} KiB written, {bytes:.1} bytes an event")?;
        }
        self.write_state(f)?;
        self.write_verified(f)
    }
}

impl Summary {
    fn write_store(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.data_dir_kept { "" } else { " (removed now)" };
        writeln!(f, "store     {}{fate}", self.data_dir)?;
        if let Some(worth) = &self.durability {
            writeln!(f, "          {}", worth.said)?;
        }
        if let Some(opening) = self.opening.as_ref().filter(|opening| !opening.created) {
            let Opening { records, events, seconds, truncated_bytes, .. } = opening;
            let (records, events) = (grouped(*records), grouped(*events));
            write!(f, "opening   {records} records and {events} events read in {seconds:.2} s")?;
            writeln!(f, ", {} KiB of a torn end cut", grouped(truncated_bytes.div_ceil(1024)))?;
        }
        if self.holds_other_events {
            writeln!(f, "          the store holds events beside this trace as well")?;
        }
        Ok(())
    }

    fn write_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.resumed_at {
            let there = grouped(self.already_there);
            let line = grouped(line);
            writeln!(f, "resumed   behind line {line}: {there} events were there already")?;
        }
        let (events, applied) = (grouped(self.events), grouped(self.applied));
        write!(f, "events    {events} read, {applied} applied, ")?;
        write!(f, "{} duplicates, ", grouped(self.duplicates))?;
        if self.repeated > 0 {
            write!(f, "{} repeated, ", grouped(self.repeated))?;
        }
        writeln!(f, "{} rejected, {} bad lines", self.rejected, self.bad_lines)?;
        if self.applied + self.duplicates + self.repeated == 0 {
            return writeln!(f, "rate      nothing was new");
        }
        let asked = self.rate_asked.as_deref().unwrap_or("as fast as possible");
        write!(f, "rate      {:.2} million/s for {:.2} s", self.rate / 1e6, self.seconds)?;
        writeln!(f, " until {} ({} producer(s), {asked})", self.ack, self.producers)
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.rate_asked.is_some() { "intended time" } else { "offer" };
        for (level, p) in self.latency.iter().filter(|level| level.1.samples > 0) {
            writeln!(f, "latency   {from} to {level}: {}", Shown(p))?;
        }
        if self.machine_stall.samples > 0 {
            let stall = Shown(&self.machine_stall);
            writeln!(f, "machine   a sleep of 1 ms was too long by: {stall}")?;
        }
        match self.lag_max_us {
            Some(lag) if self.saturated => {
                let lag = spoken(lag);
                writeln!(f, "          events were sent up to {lag} late: latencies include that")?;
            }
            None if self.saturated => writeln!(f, "          rings were full at times")?,
            _ => {}
        }
        Ok(())
    }

    fn write_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entities, pairs) = (grouped(self.entities as u64), grouped(self.pairs as u64));
        write!(f, "state     {entities} entities, {pairs} pairs of entity and signal, ")?;
        writeln!(f, "{} KiB", grouped(self.memory_bytes / 1024))?;
        let as_of = i64::try_from(self.as_of)
            .ok()
            .map(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)));
        match as_of {
            Some(Ok(as_of)) => writeln!(f, "as of     {as_of}")?,
            _ => writeln!(f, "as of     {} ns", self.as_of)?,
        }
        if self.clamped > 0 {
            let clamped = grouped(self.clamped as u64);
            writeln!(f, "          {clamped} pairs have later events: read as of their last one")?;
        }
        for line in &self.top {
            writeln!(f, "top       {line}")?;
        }
        Ok(())
    }

    fn write_verified(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(verified) = &self.verified else { return Ok(()) };
        let (scores, exact) = (grouped(verified.scores as u64), grouped(verified.exact as u64));
        let (again, places) = (grouped(verified.again as u64), grouped(verified.places as u64));
        write!(
            f,
            "verified  {scores} scores, {exact} counts and times against the reference model; "
        )?;
        writeln!(f, "{again} numbers again by other reads; {places} places in rankings")?;
        if verified.difference_count == 0 {
            writeln!(f, "          all equal (scores to {:.0e})", verified.largest_difference)?;
        } else {
            writeln!(f, "          {} DIFFERENCES", verified.difference_count)?;
            for difference in &verified.differences {
                writeln!(f, "          {difference}")?;
            }
        }
        Ok(())
    }
}

/// The percentiles that a person compares.
struct Shown<'p>(&'p Percentiles);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50_us, p99_us, p999_us, max_us, .. } = *self.0;
        let [p50, p99, p999, max] = [p50_us, p99_us, p999_us, max_us].map(spoken);
        write!(f, "p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit a person would choose.
fn spoken(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.1} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(654_692), "654,692");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(spoken(999.94), "999.9 µs");
        assert_eq!(spoken(1500.0), "1.50 ms");
        assert_eq!(spoken(2.5e6), "2.50 s");
    }
}
