//! What commands print: text for people, one JSON object for programs.
//!
//! Promises: nothing that came from a file or an argument can steer a terminal: control characters
//! are escaped; a reader that goes away early is no failure.
//! Fails by: [`Fault`] of kind environment, when standard output cannot be written.
//! Not here: what the values mean.

use crate::fault::Fault;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Prints text that is ready to be seen.
///
/// # Errors
///
/// When it cannot be written, unless its reader has gone.
pub fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fault::environment(format!(
            "standard output cannot be written: {error}; give it a place with room"
        ))),
        _ => Ok(()),
    }
}

/// Prints one JSON object on a line of its own.
///
/// # Errors
///
/// As [`fn@print`].
///
/// # Panics
///
/// Never: what the commands print has text for keys.
pub fn print_json(value: &impl Serialize) -> Result<(), Fault> {
    print(&(json(value) + "\n"))
}

fn json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Escaping(CompactFormatter));
    value.serialize(&mut serializer).expect("keys are text and memory takes every byte");
    String::from_utf8(bytes).expect("JSON is text")
}

/// Compact JSON that also escapes the control characters JSON itself does not mind.
struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for part in fragment.split_inclusive(steers) {
            let plain = part.trim_end_matches(steers);
            self.0.write_string_fragment(writer, plain)?;
            part[plain.len()..]
                .chars()
                .try_for_each(|sign| write!(writer, "\\u{:04x}", u32::from(sign)))?;
        }
        Ok(())
    }
}

/// Whether a terminal may do something else with this character than show it.
fn steers(sign: char) -> bool {
    let turns_text_around = matches!(sign, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(sign, '\u{2066}'..='\u{2069}' | '\u{61c}');
    sign.is_control() || turns_text_around
}

/// The text with everything escaped that could steer a terminal or break the line.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for sign in text.chars() {
        if steers(sign) {
            shown.extend(sign.escape_default());
        } else {
            shown.push(sign);
        }
    }
    shown
}

/// A path as it can be shown.
#[must_use]
pub fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A size for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, UNITS[0]);
    for next in &UNITS[1..] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    if bytes < 1024 { format!("{bytes} bytes") } else { format!("{amount:.1} {unit}") }
}

/// A number and its noun.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// Appends `text` to `page`, broken between words before `columns_max`; every line but the first
/// is indented. A word longer than a line stays whole.
pub fn wrap(page: &mut String, text: &str, indent: usize, columns_max: usize) {
    let mut column = page.chars().rev().take_while(|sign| *sign != '\n').count();
    let mut first = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > columns_max {
            let _ = write!(page, "\n{:indent$}", "");
            column = indent;
        } else if !first {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += length;
        first = false;
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_other_text_is_left_alone() {
        let name = "a\u{1b}[2J\r\nb\u{9b}31mc\u{202e}d\u{7f}";
        assert_eq!(printable(name), r"a\u{1b}[2J\r\nb\u{9b}31mc\u{202e}d\u{7f}");
        assert_eq!(printable("Zoë's \"日本\""), "Zoë's \"日本\"");
    }

    #[test]
    fn json_steers_no_terminal_and_is_read_back_as_it_was() {
        let name = "\u{9b}a\u{1b}[2J\u{9b}\u{7f}\"\\é\u{202e}";
        let text = json(&name);
        assert!(!text.chars().any(steers), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 33_554_432, 1_099_511_627_776].map(size);
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.0 KiB", "32.0 MiB", "1.0 TiB"]);
        assert!(size(u64::MAX).ends_with("PiB"));
    }

    #[test]
    fn lines_break_between_words_and_a_long_word_stays_whole() {
        let mut page = "name ".to_owned();
        wrap(&mut page, "one two three unbreakably-long", 5, 12);
        assert_eq!(page, "name one two\n     three\n     unbreakably-long\n");
    }
}
