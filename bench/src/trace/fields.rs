//! Fields: one line cut at its commas, by the rules of RFC 4180.
//!
//! Promises: a field is what its writer meant, without the quotes; a quote anywhere else than
//! around a whole field is refused rather than guessed at. A line without quotes is not copied.

use memchr::memchr;

use super::Reason;
use crate::limits::COLUMNS_MAX;

/// The fields of one line.
pub(crate) struct Fields<'a> {
    /// The first fields, empty beyond `count`.
    pub(crate) columns: [&'a [u8]; COLUMNS_MAX],
    /// How many fields the line has, which may be more than `columns` holds.
    pub(crate) count: usize,
}

/// Cuts `line` at its commas; `unquoted` is room for fields that had quotes.
#[inline]
pub(crate) fn split<'a>(line: &'a [u8], unquoted: &'a mut Vec<u8>) -> Result<Fields<'a>, Reason> {
    let mut fields = Fields { columns: [&[]; COLUMNS_MAX], count: 0 };
    let mut start = 0;
    // Fields are short: eight bytes at a time find their ends sooner than wide searches do.
    let (words, tail) = line.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        if bytes_equal(word, b'"') != 0 {
            return split_quoted(line, unquoted);
        }
        let mut commas = bytes_equal(word, b',');
        while commas != 0 {
            let at = index * 8 + (commas.trailing_zeros() / 8) as usize;
            fields.push(&line[start..at]);
            start = at + 1;
            commas &= commas - 1;
        }
    }
    for (at, byte) in (words.len() * 8..).zip(tail) {
        match byte {
            b'"' => return split_quoted(line, unquoted),
            b',' => {
                fields.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&line[start..]);
    Ok(fields)
}

/// The high bit of each byte of `word` that is `byte`, and no other bit.
#[inline]
fn bytes_equal(word: u64, byte: u8) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differences = word ^ u64::from_le_bytes([byte; 8]);
    // A byte that differs sets its high bit in the sum, or has it set; the sum never carries.
    !(((differences & LOW_BITS) + LOW_BITS) | differences | LOW_BITS)
}

impl<'a> Fields<'a> {
    #[inline]
    fn push(&mut self, field: &'a [u8]) {
        if let Some(column) = self.columns.get_mut(self.count) {
            *column = field;
        }
        self.count += 1;
    }
}

#[cold]
fn split_quoted<'a>(line: &[u8], unquoted: &'a mut Vec<u8>) -> Result<Fields<'a>, Reason> {
    unquoted.clear();
    let mut ends = [0; COLUMNS_MAX];
    let mut count = 0;
    let mut rest = line;
    loop {
        rest = match rest.strip_prefix(b"\"") {
            Some(inside) => copy_quoted(inside, unquoted)?,
            None => copy_plain(rest, unquoted)?,
        };
        if let Some(end) = ends.get_mut(count) {
            *end = unquoted.len();
        }
        count += 1;
        match rest.split_first() {
            None => break,
            Some((b',', after)) => rest = after,
            Some(_) => return Err(Reason::Quote),
        }
    }
    let mut fields = Fields { columns: [&[]; COLUMNS_MAX], count };
    let mut start = 0;
    for (column, &end) in fields.columns.iter_mut().zip(&ends[..count.min(COLUMNS_MAX)]) {
        *column = &unquoted[start..end];
        start = end;
    }
    Ok(fields)
}

/// Copies a field up to its closing quote and gives back what follows the quote.
fn copy_quoted<'a>(mut rest: &'a [u8], unquoted: &mut Vec<u8>) -> Result<&'a [u8], Reason> {
    loop {
        let quote = memchr(b'"', rest).ok_or(Reason::Quote)?;
        unquoted.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                unquoted.push(b'"');
                rest = after;
            }
            None => return Ok(rest),
        }
    }
}

/// Copies a field without quotes and gives back what follows it.
fn copy_plain<'a>(rest: &'a [u8], unquoted: &mut Vec<u8>) -> Result<&'a [u8], Reason> {
    let end = memchr(b',', rest).unwrap_or(rest.len());
    let (field, after) = rest.split_at(end);
    if field.contains(&b'"') {
        return Err(Reason::Quote);
    }
    unquoted.extend_from_slice(field);
    Ok(after)
}

/// Writes `text` as one field, in quotes if it needs them.
pub(crate) fn quote(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(line: &str) -> Result<Vec<String>, Reason> {
        let mut unquoted = Vec::new();
        let fields = split(line.as_bytes(), &mut unquoted)?;
        let kept = &fields.columns[..fields.count.min(COLUMNS_MAX)];
        Ok(kept.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect())
    }

    #[test]
    fn quotes_enclose_commas_and_doubled_quotes() {
        assert_eq!(fields_of(r#"1,"a,""b""",c"#).unwrap(), ["1", r#"a,"b""#, "c"]);
        assert_eq!(fields_of(r#"""","#).unwrap_err(), Reason::Quote);
        assert_eq!(fields_of(r#""""""#).unwrap(), ["\""]);
        assert_eq!(fields_of(r#""",x,"""#).unwrap(), ["", "x", ""]);
    }

    #[test]
    fn a_quote_inside_or_after_a_field_is_refused() {
        for line in ["a\"b,c", "\"a\"b,c", "c,\"open", "\"", "a,b\""] {
            assert_eq!(fields_of(line).unwrap_err(), Reason::Quote, "{line}");
        }
    }

    #[test]
    fn more_fields_than_columns_are_counted() {
        let mut unquoted = Vec::new();
        assert_eq!(split(b"1,2,3,4,5,6,7", &mut unquoted).unwrap().count, 7);
        assert_eq!(split(b"1,2,\"3\",4,5,6,7", &mut unquoted).unwrap().count, 7);
        assert_eq!(split(b",", &mut unquoted).unwrap().count, 2);
    }

    #[test]
    fn what_quote_writes_split_reads() {
        for text in ["plain", "a,b", "\"", "a \"b\" c", " spaces "] {
            assert_eq!(fields_of(&format!("1,{}", quote(text))).unwrap(), ["1", text]);
        }
    }
}
