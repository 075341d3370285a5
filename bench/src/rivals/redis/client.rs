//! A client of Redis: commands out, replies in, as many on the way as the caller likes.
//!
//! Promises: speaks RESP 2, whatever bytes a command has; every fault of server or wire is a typed
//! error, and no reply makes it allocate more than [`REPLY_BYTES_MAX`].

use std::io::{self, BufRead as _, BufReader, Read, Write};
use thiserror::Error;

/// Largest reply that is taken.
const REPLY_BYTES_MAX: usize = 1 << 20;
/// Longest line of a reply.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Why Redis did not do what it was asked.
#[derive(Debug, Error)]
pub enum RedisError {
    /// There is none.
    #[error("there is no redis-server in PATH; install one to have this row")]
    Absent,
    /// It did not come up.
    #[error("redis-server does not answer in its folder {folder}: {why}")]
    Start {
        /// Where it was to work.
        folder: String,
        /// What it or the system said.
        why: String,
    },
    /// The connection, or a file.
    #[error("no answer from redis-server: {0}; see whether it was killed, or its disk is full")]
    Io(#[from] io::Error),
    /// It refused a command.
    #[error("redis-server refuses a command: {0}; 7.0 is known to work")]
    Refused(String),
    /// What came is no reply, or not one to what was asked.
    #[error("redis-server answers what is not understood: {0}; 7.0 is known to work")]
    Strange(String),
}

/// What Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status or a string.
    Text(Vec<u8>),
    /// A number.
    Integer(i64),
    /// No such key.
    Nothing,
}

impl Reply {
    /// The number it is.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn integer(self) -> Result<i64, RedisError> {
        match self {
            Self::Integer(number) => Ok(number),
            other => Err(RedisError::Strange(format!("{other:?} instead of a number"))),
        }
    }

    /// The text it is.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn text(self) -> Result<Vec<u8>, RedisError> {
        match self {
            Self::Text(bytes) => Ok(bytes),
            other => Err(RedisError::Strange(format!("{other:?} instead of a text"))),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client<S: Read + Write> {
    stream: BufReader<S>,
    command: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    /// Over a stream that is connected.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream), command: Vec::new() }
    }

    /// Sends a command and waits for its reply; no other may be on the way.
    ///
    /// # Errors
    ///
    /// If the connection fails, or the server refuses.
    pub fn call(&mut self, words: &[&[u8]]) -> Result<Reply, RedisError> {
        self.send(words)?;
        self.reply()
    }

    /// Sends a command; its reply comes after those of the commands before.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn send(&mut self, words: &[&[u8]]) -> Result<(), RedisError> {
        self.command.clear();
        write!(self.command, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.command, "${}\r\n", word.len())?;
            self.command.extend_from_slice(word);
            self.command.extend_from_slice(b"\r\n");
        }
        Ok(self.stream.get_mut().write_all(&self.command)?)
    }

    /// The next reply.
    ///
    /// # Errors
    ///
    /// If the connection fails, or the server refused the command.
    pub fn reply(&mut self) -> Result<Reply, RedisError> {
        let line = self.line()?;
        let strange = || RedisError::Strange(format!("{line:?}"));
        let mut letters = line.chars();
        let (kind, rest) = (letters.next(), letters.as_str());
        match kind {
            Some('+') => Ok(Reply::Text(rest.as_bytes().to_vec())),
            Some('-') => Err(RedisError::Refused(rest.to_owned())),
            Some(':') => rest.parse().map(Reply::Integer).map_err(|_| strange()),
            Some('$') if rest == "-1" => Ok(Reply::Nothing),
            Some('$') => {
                let bytes = rest.parse().ok().filter(|&bytes: &usize| bytes <= REPLY_BYTES_MAX);
                self.bulk(bytes.ok_or_else(strange)?)
            }
            _ => Err(strange()),
        }
    }

    fn line(&mut self) -> Result<String, RedisError> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None if line.len() as u64 == LINE_BYTES_MAX => {
                Err(RedisError::Strange("a line without an end".into()))
            }
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    fn bulk(&mut self, bytes: usize) -> Result<Reply, RedisError> {
        let mut text = vec![0; bytes + 2];
        self.stream.read_exact(&mut text)?;
        if !text.ends_with(b"\r\n") {
            return Err(RedisError::Strange("a string that is longer than announced".into()));
        }
        text.truncate(bytes);
        Ok(Reply::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A client of a server that says `said` and hangs up.
    fn told(said: &[u8]) -> (Client<UnixStream>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        (Client::new(ours), theirs)
    }

    #[test]
    fn a_command_is_counted_words_whatever_is_in_them() {
        let (mut client, mut server) = told(b"+OK\r\n");
        let reply = client.call(&[b"SET", b"a\r\n\0", b""]).unwrap();
        assert_eq!(reply, Reply::Text(b"OK".to_vec()));
        drop(client);
        let mut sent = Vec::new();
        server.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"*3\r\n$3\r\nSET\r\n$4\r\na\r\n\0\r\n$0\r\n\r\n");
    }

    #[test]
    fn replies_come_one_after_the_other() {
        let said = b":-7\r\n$5\r\na\r\nbc\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n+P\r\n";
        let (mut client, _server) = told(said);
        assert_eq!(client.reply().unwrap().integer().unwrap(), -7);
        assert_eq!(client.reply().unwrap(), Reply::Text(b"a\r\nbc".to_vec()));
        assert_eq!(client.reply().unwrap(), Reply::Nothing);
        assert_eq!(client.reply().unwrap().text().unwrap(), b"");
        let refused = client.reply().unwrap_err();
        assert!(matches!(&refused, RedisError::Refused(why) if why == "ERR no"), "{refused}");
        assert_eq!(client.reply().unwrap(), Reply::Text(b"P".to_vec()));
        assert!(matches!(client.reply().unwrap_err(), RedisError::Io(_)), "it hung up");
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_no_memory() {
        let long = [b"+".as_slice(), &vec![b'a'; 100_000]].concat();
        let rubbish: [&[u8]; 8] = [
            b"hello\r\n",
            b"\r\n",
            b":one\r\n",
            b"$99999999999\r\n",
            b"$-2\r\n",
            b"$2\r\nabcd\r\n",
            b"*1\r\n:1\r\n",
            &long,
        ];
        for said in rubbish {
            let error = told(said).0.reply().unwrap_err();
            assert!(matches!(error, RedisError::Strange(_)), "{error}");
        }
        for cut in [b"+OK".as_slice(), b"$5\r\nab", b""] {
            let error = told(cut).0.reply().unwrap_err();
            assert!(matches!(error, RedisError::Io(_)), "{error}");
        }
        assert!(Reply::Nothing.integer().is_err() && Reply::Integer(1).text().is_err());
    }
}
