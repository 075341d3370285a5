//! One Rust file as the rules see it: its text, and its code without comments and literals.
//!
//! Promises: comments, strings and characters never reach a rule about code, so an error text may
//! say what code may not; line numbers are those of the file; `use a::{b, c};` reads as
//! `use a::b; use a::c;`, so a group hides nothing.
//! Not promised: parsing. Macros are read as the tokens they are written with, and an alias
//! (`use std as s`) is not followed.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// A word, a `::` or one sign of code, and the line it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Counted from 1.
    pub line: usize,
    /// The word or sign itself.
    pub text: String,
}

impl Token {
    /// Whether this is a word: an identifier, a keyword or a number.
    #[must_use]
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

/// A function with a body, from its `fn` to its closing brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without the type it belongs to.
    pub name: String,
    /// First and last line.
    pub lines: RangeInclusive<usize>,
}

/// One Rust file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the repository's root, with `/` between parts.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// The code in it, `use` groups spelled out.
    pub tokens: Vec<Token>,
}

impl Source {
    /// Reads `text` as the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let tokens = spell_out_uses(split(&mask(&text)));
        Self { path: path.into(), text, tokens }
    }

    /// Lines at which the code reads like `pattern`, itself written as code; a word that ends
    /// in `*` stands for every word that begins so.
    ///
    /// # Panics
    ///
    /// When `pattern` holds no code: every line would read like it.
    #[must_use]
    pub fn lines_with(&self, pattern: &str) -> Vec<usize> {
        let wanted = words_of_pattern(pattern);
        assert!(!wanted.is_empty(), "a pattern holds code");
        let mut lines: Vec<usize> = self
            .tokens
            .windows(wanted.len())
            .filter(|seen| seen.iter().zip(&wanted).all(|(token, word)| fits(&token.text, word)))
            .map(|seen| seen[0].line)
            .collect();
        lines.dedup();
        lines
    }

    /// Every function with a body, nested ones too.
    #[must_use]
    pub fn functions(&self) -> Vec<Function> {
        let starts = self.tokens.windows(2).enumerate();
        starts
            .filter(|(_, pair)| pair[0].text == "fn" && pair[1].is_word())
            .filter_map(|(at, pair)| {
                let open = self.body_after(at)?;
                let end = self.tokens[self.matching_brace(open)].line;
                Some(Function { name: pair[1].text.clone(), lines: pair[0].line..=end })
            })
            .collect()
    }

    /// Lines of the modules that only tests compile, braces and attribute included.
    #[must_use]
    pub fn test_modules(&self) -> Vec<RangeInclusive<usize>> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            let Some((end, attribute)) = self.attribute_at(at) else { continue };
            let only_tests = attribute.starts_with("cfg ( ")
                && attribute.contains(" test ")
                && !attribute.contains("not ( test ");
            if let Some(open) = self.inline_module_after(end + 1).filter(|_| only_tests) {
                let last = self.matching_brace(open);
                found.push(self.tokens[at].line..=self.tokens[last].line);
            }
        }
        found
    }

    /// Position of the brace that closes the one at `open`, or of the last token.
    #[must_use]
    pub fn matching_brace(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// Position of the `{` that opens the body of the function at `at`, if it has one.
    fn body_after(&self, at: usize) -> Option<usize> {
        let mut depth = 0_i32;
        for (offset, token) in self.tokens[at..].iter().enumerate() {
            match token.text.as_str() {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "{" if depth == 0 => return Some(at + offset),
                ";" if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// The attribute that begins at `at`: where it ends and what it says, a space after each word.
    fn attribute_at(&self, at: usize) -> Option<(usize, String)> {
        let is = |at: usize, text: &str| self.tokens.get(at).is_some_and(|t| t.text == text);
        if !is(at, "#") || !is(at + 1, "[") {
            return None;
        }
        let end = (at + 2..self.tokens.len()).find(|&end| is(end, "]"))?;
        let words = self.tokens[at + 2..end].iter().map(|token| token.text.clone() + " ");
        Some((end, words.collect()))
    }

    /// Position of the `{` of an inline module declared at `at`, past further attributes.
    fn inline_module_after(&self, mut at: usize) -> Option<usize> {
        while let Some((end, _)) = self.attribute_at(at) {
            at = end + 1;
        }
        let head = self.tokens.get(at..)?.iter().position(|token| token.text == "mod")?;
        // Between the attribute and `mod` there is a visibility at most: `pub(crate)`.
        let open = at + head + 2;
        (head <= 4 && self.tokens.get(open)?.text == "{").then_some(open)
    }
}

fn fits(text: &str, word: &str) -> bool {
    word.strip_suffix('*').map_or(text == word, |start| text.starts_with(start))
}

fn words_of_pattern(pattern: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for token in split(pattern) {
        match words.last_mut() {
            Some(last) if token.text == "*" => last.push('*'),
            _ => words.push(token.text),
        }
    }
    words
}

fn is_word_char(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// Splits masked code into tokens.
fn split(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = if is_word_char(first) {
                rest.find(|sign| !is_word_char(sign)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(end);
            tokens.push(Token { line: index + 1, text: text.to_owned() });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Replaces each `use` of a group by one `use` for each leaf.
fn spell_out_uses(tokens: Vec<Token>) -> Vec<Token> {
    let mut left = VecDeque::from(tokens);
    let mut out = Vec::with_capacity(left.len());
    while let Some(token) = left.pop_front() {
        // `use<'a>` in a type captures lifetimes; it imports nothing.
        let imports = token.text == "use" && left.front().is_some_and(|next| next.text != "<");
        if imports {
            spell_out_tree(&mut left, &[token], &mut out);
        } else {
            out.push(token);
        }
    }
    out
}

/// Reads one tree of imports after `prefix` and writes its leaves.
fn spell_out_tree(left: &mut VecDeque<Token>, prefix: &[Token], out: &mut Vec<Token>) {
    let mut path = prefix.to_vec();
    while let Some(token) = left.pop_front() {
        match token.text.as_str() {
            "{" => {
                while left.front().is_some_and(|next| next.text != "}") {
                    spell_out_tree(left, &path, out);
                    left.pop_front_if(|next| next.text == ",");
                }
                left.pop_front();
                left.pop_front_if(|next| next.text == ";");
                return;
            }
            "," | "}" | ";" => {
                let line = path.last().map_or(token.line, |leaf| leaf.line);
                out.extend(path.into_iter().map(|part| Token { line, ..part }));
                out.push(Token { line, text: ";".to_owned() });
                if token.text != ";" {
                    left.push_front(token);
                }
                return;
            }
            _ => path.push(token),
        }
    }
}

/// The text with comments and the inside of literals blanked, line for line.
fn mask(text: &str) -> String {
    let mut masker = Masker { text: text.chars().collect(), at: 0, out: String::new() };
    while let Some(sign) = masker.peek(0) {
        match (sign, masker.peek(1)) {
            ('/', Some('/')) => masker.blank_line_comment(),
            ('/', Some('*')) => masker.blank_block_comment(),
            ('"', _) => masker.blank_string(),
            ('\'', _) => masker.blank_character(),
            _ if is_word_char(sign) => masker.keep_word(),
            _ => masker.keep(),
        }
    }
    masker.out
}

struct Masker {
    text: Vec<char>,
    at: usize,
    out: String,
}

impl Masker {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        self.out.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        let sign = self.peek(0).map(|sign| if sign == '\n' { '\n' } else { ' ' });
        self.out.extend(sign);
        self.at += 1;
    }

    fn blank_line_comment(&mut self) {
        while self.peek(0).is_some_and(|sign| sign != '\n') {
            self.blank();
        }
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(sign) = self.peek(0) {
            match (sign, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    /// A string in plain quotes, at the opening one.
    fn blank_string(&mut self) {
        self.blank();
        while let Some(sign) = self.peek(0) {
            if sign == '\\' {
                self.blank();
            }
            self.blank();
            if sign == '"' {
                return;
            }
        }
    }

    /// A character, or the `'` of a lifetime, which is code.
    fn blank_character(&mut self) {
        if self.peek(1) == Some('\\') {
            // The quote, the backslash and the sign behind it, then up to the closing quote.
            for _ in 0..3 {
                self.blank();
            }
            while self.peek(0).is_some_and(|sign| sign != '\'') {
                self.blank();
            }
            self.blank();
        } else if self.peek(2) == Some('\'') {
            for _ in 0..3 {
                self.blank();
            }
        } else {
            self.keep();
        }
    }

    /// A word; when it is the prefix of a raw string, that string too.
    fn keep_word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word_char) {
            self.keep();
        }
        let word: String = self.text[start..self.at].iter().collect();
        let hashes = self.text[self.at..].iter().take_while(|sign| **sign == '#').count();
        if matches!(word.as_str(), "r" | "br" | "cr") && self.peek(hashes) == Some('"') {
            self.blank_raw_string(hashes);
        }
    }

    fn blank_raw_string(&mut self, hashes: usize) {
        for _ in 0..=hashes {
            self.blank();
        }
        while let Some(sign) = self.peek(0) {
            let closes = sign == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            self.blank();
            if closes {
                for _ in 0..hashes {
                    self.blank();
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        let source = Source::new("a.rs", text);
        source.tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), "a f");
        assert_eq!(words(r#"let a = "b \" c"; d"#), "let a = ; d");
        assert_eq!(words("let a = r#\"b \" c\"#; d"), "let a = r ; d");
        assert_eq!(words(r"let a = ['x', '\'', '\u{1F}', b'\\']; d"), "let a = [ , , , b ] ; d");
        assert_eq!(words("fn f<'a>(b: &'a str)"), "fn f < ' a > ( b : & ' a str )");
    }

    #[test]
    fn a_line_keeps_its_number_behind_a_long_literal() {
        let source = Source::new("a.rs", "let a = \"one\n  two \\\n three\";\nlet b = 1;\n");
        assert_eq!(source.lines_with("let b"), [4]);
    }

    #[test]
    fn a_group_of_imports_hides_nothing() {
        let source =
            Source::new("a.rs", "use std::{\n    fs,\n    time::{self, Instant as I},\n};\n");
        assert_eq!(source.lines_with("std::fs"), [2]);
        assert_eq!(source.lines_with("std::time::Instant"), [3]);
        assert_eq!(
            words("use a::{b, c::{d}, e};f"),
            "use a :: b ; use a :: c :: d ; use a :: e ; f"
        );
        assert_eq!(words("fn f() -> impl Sized + use<'_> {}"), {
            "fn f ( ) - > impl Sized + use < ' _ > { }"
        });
    }

    #[test]
    fn a_pattern_may_end_in_a_star() {
        let source = Source::new("a.rs", "use std::sync::atomic::AtomicU64;\nlet atom = 1;\n");
        assert_eq!(source.lines_with("Atomic*"), [1]);
        assert_eq!(source.lines_with("Atomic"), [0_usize; 0]);
    }

    #[test]
    fn functions_are_found_with_their_last_line() {
        let text = "trait T {\n    fn a(&self);\n}\nfn b<const N: usize>(c: [u8; { 4 }])\n\
                    where\n    u8: Copy,\n{\n    if d {\n    }\n}\n";
        let functions = Source::new("a.rs", text).functions();
        assert_eq!(functions, [Function { name: "b".to_owned(), lines: 4..=10 }]);
    }

    #[test]
    fn only_modules_for_tests_are_test_modules() {
        let text = "#[cfg(test)]\nmod a {\n}\n#[cfg(not(test))]\nmod b {\n}\n\
                    #[cfg(all(loom, test))]\n#[rustfmt::skip]\npub(crate) mod c {\n}\n\
                    #[cfg(test)]\nmod d;\n";
        assert_eq!(Source::new("a.rs", text).test_modules(), [1..=3, 7..=10]);
    }
}
