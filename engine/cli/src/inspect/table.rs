//! The logs as tables for people.
//!
//! Promises: 80 columns while the numbers are those of a young store; later a column widens
//! rather than cuts a number.

use super::log::{End, Frame, Log};
use super::segments::Segment;
use crate::limits::COLUMNS_MAX;
use crate::output::{count, size, wrap};
use std::fmt::Write as _;

/// All logs, one below the other.
pub(super) fn page(logs: &[Log], folder: &str) -> String {
    let mut page = format!("logs in {folder}: {}\n", logs.len());
    for log in logs {
        let _ = writeln!(page, "\nlog {}", log.number);
        if let Some(store) = &log.store {
            let _ = writeln!(page, "  of store {store}");
        }
        segments(&mut page, &log.segments);
        if let Some(frames) = log.frames.as_ref().filter(|frames| !frames.is_empty()) {
            self::frames(&mut page, frames);
        }
        for line in summary(log) {
            page.push_str("  ");
            wrap(&mut page, &line, 4, COLUMNS_MAX);
        }
    }
    page
}

fn segments(page: &mut String, segments: &[Segment]) {
    if segments.is_empty() {
        return;
    }
    let titles = ["segment", "bytes", "first record", "last record", "frames", "sealed"];
    row(page, &titles, &SEGMENT_WIDTHS);
    for segment in segments {
        let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        let sealed = if segment.sealed { "yes" } else { "no" };
        let cells = [
            segment.seq.to_string(),
            segment.bytes.to_string(),
            number(segment.lsn_first),
            number(segment.lsn_last),
            segment.frames.to_string(),
            sealed.to_owned(),
        ];
        row(page, &cells, &SEGMENT_WIDTHS);
        if let Some(error) = &segment.error {
            page.push_str("           ");
            wrap(page, error, 11, COLUMNS_MAX);
        }
    }
}

const SEGMENT_WIDTHS: [usize; 6] = [9, 12, 16, 16, 10, 8];
const FRAME_WIDTHS: [usize; 7] = [9, 12, 12, 14, 8, 14, 9];

fn frames(page: &mut String, frames: &[Frame]) {
    page.push('\n');
    let titles = ["segment", "offset", "kind", "first record", "records", "durable", "bytes"];
    row(page, &titles, &FRAME_WIDTHS);
    for frame in frames {
        let cells = [
            frame.segment.to_string(),
            frame.offset.to_string(),
            frame.kind.to_owned(),
            frame.lsn_first.to_string(),
            frame.lsn_count.to_string(),
            frame.durable.to_string(),
            frame.bytes.to_string(),
        ];
        row(page, &cells, &FRAME_WIDTHS);
    }
    page.push('\n');
}

/// Cells aligned to the right, at least one blank between them.
fn row(page: &mut String, cells: &[impl AsRef<str>], widths: &[usize]) {
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(page, " {:>1$}", cell.as_ref(), width - 1);
    }
    page.push('\n');
}

fn summary(log: &Log) -> Vec<String> {
    let mut lines = Vec::new();
    match (&log.end, &log.error) {
        (_, Some(error)) => lines.push(format!("DAMAGED or unreadable: {}", error.message)),
        (None, None) => lines.push("could not be read".into()),
        (Some(_), None) if log.segments.is_empty() => lines.push("holds no segment".into()),
        (Some(end), None) => lines.extend(ending(end)),
    }
    let files = [
        (log.spare_files, "ready to be used again"),
        (log.temporary_files, "left unfinished"),
        (log.stranger_files, "that no log made"),
    ];
    let files = files.into_iter().filter(|(many, _)| *many > 0);
    lines.extend(files.map(|(many, which)| format!("{} {which}", count(many, "file"))));
    lines
}

fn ending(end: &End) -> Vec<String> {
    let mut lines = Vec::new();
    let from = match end.begins_after {
        0 => String::new(),
        before => format!("; up to {before} they have left the log"),
    };
    let last = match end.last {
        0 => String::new(),
        last => format!(", the last is {last}"),
    };
    lines.push(format!("{}{last}{from}", count(end.records, "record")));
    if let Some(covered) = end.checkpoint_covers {
        lines.push(format!("a checkpoint covers every record up to {covered}"));
    }
    lines.push(if end.clean_shutdown {
        "closed in order".into()
    } else if end.torn_bytes == 0 {
        "not closed in order; nothing is torn".into()
    } else {
        format!(
            "not closed in order; a torn tail of {} in {}, none of it durable: the next opening \
             cuts it",
            size(end.torn_bytes),
            count(end.torn_frames, "frame"),
        )
    });
    lines
}
