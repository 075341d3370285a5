//! One short question at a time, and its answer, each in cache lines of its own.
//!
//! ```text
//! asker: words, then their number ─▶ answerer: the number, then its words
//!        the number, then its words ◀─         words, then their number
//! ```
//!
//! Promises: words that are read are those written under the number. Invariants: the asker asks
//! again only once the answer is there, and the answerer answers what was asked and nothing else;
//! so nobody writes where the other may be reading. Why not a ring: there the word that says that
//! something came is in another cache line than what came, and a line takes as long to cross
//! between cores as a pair to be read. Every interleaving is checked by loom
//! (`loom_answers_belong_to_their_questions`). Not here: what the words mean, and how a sleeper is
//! woken.

use crate::primitives::{AtomicU64, Ordering};
use std::sync::Arc;

/// Words of a question: as many as share a line with its number.
pub(super) const QUESTION_WORDS: usize = 7;

/// Words that cross together with their number. They begin at a pair of lines, since processors
/// fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Numbered<const WORDS: usize> {
    number: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Numbered<WORDS> {
    fn new() -> Self {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Self { number: AtomicU64::new(0), words }
    }

    #[inline]
    fn is_at(&self, number: u64) -> bool {
        self.number.load(Ordering::Acquire) == number
    }

    /// Writes as many words as there are; the lines behind them stay where they are.
    #[inline]
    fn write(&self, number: u64, words: impl Iterator<Item = u64>) {
        let mut places = self.words.iter();
        // Each part of a chain in a loop of its own, which a pair of iterators is not.
        words.for_each(|word| {
            let place = places.next().expect("no answer has more words than there are places");
            place.store(word, Ordering::Relaxed);
        });
        self.number.store(number, Ordering::Release);
    }

    #[inline]
    fn read(&self) -> impl Iterator<Item = u64> {
        self.words.iter().map(|word| word.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Shared<const WORDS: usize> {
    question: Numbered<QUESTION_WORDS>,
    answer: Numbered<WORDS>,
}

/// The end that asks.
#[derive(Debug)]
pub(super) struct Asker<const WORDS: usize> {
    shared: Arc<Shared<WORDS>>,
    asked: u64,
}

/// The end that answers, in up to so many words.
#[derive(Debug)]
pub(super) struct Answerer<const WORDS: usize> {
    shared: Arc<Shared<WORDS>>,
    answered: u64,
}

/// Both ends of a new exchange.
pub(super) fn exchange<const WORDS: usize>() -> (Asker<WORDS>, Answerer<WORDS>) {
    let shared = Arc::new(Shared { question: Numbered::new(), answer: Numbered::new() });
    (Asker { shared: Arc::clone(&shared), asked: 0 }, Answerer { shared, answered: 0 })
}

impl<const WORDS: usize> Asker<WORDS> {
    /// Asks.
    ///
    /// # Panics
    ///
    /// If the question before is not answered.
    #[inline]
    pub(super) fn ask(&mut self, question: [u64; QUESTION_WORDS]) {
        assert!(self.is_answered(), "one question at a time");
        self.asked += 1;
        self.shared.question.write(self.asked, question.into_iter());
    }

    /// Whether the last question, if any, is answered.
    #[inline]
    pub(super) fn is_answered(&self) -> bool {
        self.shared.answer.is_at(self.asked)
    }

    /// The words of the answer to the last question, if it is there, and behind them whatever.
    #[inline]
    pub(super) fn answer(&self) -> Option<impl Iterator<Item = u64>> {
        self.is_answered().then(|| self.shared.answer.read())
    }
}

impl<const WORDS: usize> Answerer<WORDS> {
    /// Whether a question waits.
    #[inline]
    pub(super) fn has_question(&self) -> bool {
        !self.shared.question.is_at(self.answered)
    }

    /// The question that waits, if any.
    #[inline]
    pub(super) fn question(&self) -> Option<[u64; QUESTION_WORDS]> {
        self.has_question().then(|| {
            let mut words = self.shared.question.read();
            std::array::from_fn(|_| words.next().unwrap_or(0))
        })
    }

    /// Answers the question that waits.
    #[inline]
    pub(super) fn answer(&mut self, answer: impl Iterator<Item = u64>) {
        debug_assert!(self.has_question(), "what was not asked is not answered");
        self.answered += 1;
        self.shared.answer.write(self.answered, answer);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_answers_belong_to_their_questions() {
        loom::model(|| {
            let (mut asker, mut answerer) = exchange::<2>();
            let answering = loom::thread::spawn(move || {
                for _ in 0..2 {
                    while !answerer.has_question() {
                        loom::thread::yield_now();
                    }
                    let [first, second, ..] = answerer.question().unwrap();
                    answerer.answer([first + 1, second + 1].into_iter());
                }
            });
            for word in [10, 20] {
                asker.ask([word; QUESTION_WORDS]);
                while !asker.is_answered() {
                    loom::thread::yield_now();
                }
                let answer: Vec<u64> = asker.answer().unwrap().collect();
                assert_eq!(answer, [word + 1; 2]);
            }
            answering.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_there_once_it_is_given() {
        let (mut asker, mut answerer) = exchange::<3>();
        assert!(answerer.question().is_none() && asker.is_answered());
        asker.ask([1, 2, 3, 4, 5, 6, 7]);
        assert!(asker.answer().is_none());
        assert_eq!(answerer.question(), Some([1, 2, 3, 4, 5, 6, 7]));
        answerer.answer([8, 9].into_iter());
        assert!(!answerer.has_question());
        assert_eq!(asker.answer().unwrap().collect::<Vec<_>>(), [8, 9, 0]);
    }

    #[test]
    #[should_panic(expected = "one question at a time")]
    fn a_second_question_waits_for_the_answer_to_the_first() {
        let (mut asker, _answerer) = exchange::<1>();
        asker.ask([0; QUESTION_WORDS]);
        asker.ask([0; QUESTION_WORDS]);
    }

    #[test]
    fn a_question_and_a_short_answer_take_a_line_each() {
        assert_eq!(size_of::<Numbered<QUESTION_WORDS>>(), 128);
        assert_eq!(std::mem::offset_of!(Numbered<QUESTION_WORDS>, words), 8);
    }
}
