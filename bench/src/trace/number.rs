//! Numbers of a trace: entities, weights and ids.
//!
//! Promises: what is read is exactly what is written, to the last bit; eight digits at a time
//! where a number is long.

use super::Reason;

/// Why a text is no unsigned 64-bit integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotUnsigned {
    /// It is empty or holds something else than digits.
    OtherThanDigits,
    /// All digits, but more than 64 bits.
    TooLarge,
}

/// Digits that always fit in a `u64`.
const SAFE_DIGITS: usize = 19;

/// Reads an unsigned integer: digits only, no sign; leading zeros are fine.
#[inline]
pub(crate) fn unsigned(text: &[u8]) -> Result<u64, NotUnsigned> {
    if text.is_empty() {
        return Err(NotUnsigned::OtherThanDigits);
    }
    if text.len() > SAFE_DIGITS {
        return unsigned_long(text);
    }
    let (words, tail) = text.as_chunks::<8>();
    let mut value = 0;
    for word in words {
        value = value * 100_000_000 + eight_digits(*word).ok_or(NotUnsigned::OtherThanDigits)?;
    }
    for byte in tail {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(NotUnsigned::OtherThanDigits);
        }
        value = value * 10 + u64::from(digit);
    }
    Ok(value)
}

fn unsigned_long(text: &[u8]) -> Result<u64, NotUnsigned> {
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(NotUnsigned::OtherThanDigits);
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let shifted = value.checked_mul(10).ok_or(NotUnsigned::TooLarge)?;
        shifted.checked_add(u64::from(byte - b'0')).ok_or(NotUnsigned::TooLarge)
    })
}

/// The value of eight ASCII digits: pairs, then fours, then all, each step in one word.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(text) ^ 0x3030_3030_3030_3030;
    // A byte above 9 sets its high bit here, by itself or by the sum.
    if (word | word.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// Reads a weight: a finite decimal number that is not negative; empty means 1.
#[inline]
pub(crate) fn weight(text: &[u8]) -> Result<f64, Reason> {
    /// Digits that an `f64` holds exactly.
    const EXACT_DIGITS: usize = 15;
    if let [digit @ b'0'..=b'9'] = text {
        return Ok(f64::from(digit - b'0'));
    }
    if text.is_empty() {
        return Ok(1.0);
    }
    if text.len() <= EXACT_DIGITS
        && let Ok(integer) = unsigned(text)
    {
        return Ok(integer as f64);
    }
    let text = str::from_utf8(text).map_err(|_| Reason::NotUtf8)?;
    let weight: f64 = text.parse().map_err(|_| Reason::WeightUnreadable)?;
    if !weight.is_finite() {
        return Err(Reason::WeightNotFinite);
    }
    if weight < 0.0 {
        return Err(Reason::WeightNegative);
    }
    // -0 is 0: a sum must not depend on how nothing was spelled.
    Ok(weight.abs())
}

/// Reads an id: an unsigned integer as it is, any other text as the first 16 bytes of its BLAKE3
/// hash, little-endian; empty means none.
#[inline]
pub(crate) fn id(text: &[u8]) -> Result<Option<u128>, Reason> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(integer) = unsigned_128(text) {
        return Ok(Some(integer));
    }
    str::from_utf8(text).map_err(|_| Reason::NotUtf8)?;
    let hash = blake3::hash(text);
    Ok(hash.as_bytes().first_chunk().map(|head| u128::from_le_bytes(*head)))
}

/// Reads an unsigned integer of 128 bits, if `text` is one.
fn unsigned_128(text: &[u8]) -> Option<u128> {
    if text.len() <= SAFE_DIGITS {
        return unsigned(text).ok().map(u128::from);
    }
    let (head, rest) = text.split_at(text.len() % SAFE_DIGITS);
    let mut value = if head.is_empty() { 0 } else { u128::from(unsigned(head).ok()?) };
    for digits in rest.chunks(SAFE_DIGITS) {
        let low = u128::from(unsigned(digits).ok()?);
        value = value.checked_mul(10_u128.pow(19))?.checked_add(low)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_up_to_64_bits_are_read_with_any_number_of_leading_zeros() {
        for value in [0, 7, 99_999_999, 100_000_000, 1_357_019_940_000_000_000, u64::MAX] {
            for zeros in [0, 1, 7, 30] {
                let text = format!("{}{value}", "0".repeat(zeros));
                assert_eq!(unsigned(text.as_bytes()), Ok(value), "{text}");
            }
        }
    }

    #[test]
    fn every_byte_but_a_digit_is_refused_at_every_place() {
        let digits = *b"12345678901234567890123";
        for length in 1..digits.len() {
            for place in 0..length {
                for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                    let mut text = digits;
                    text[place] = byte;
                    let seen = unsigned(&text[..length]);
                    assert_eq!(seen, Err(NotUnsigned::OtherThanDigits), "{text:?}");
                }
            }
        }
        assert_eq!(unsigned(b""), Err(NotUnsigned::OtherThanDigits));
    }

    #[test]
    fn beyond_64_bits_is_too_large() {
        assert_eq!(unsigned(b"18446744073709551616"), Err(NotUnsigned::TooLarge));
        assert_eq!(unsigned(&[b'9'; 40]), Err(NotUnsigned::TooLarge));
    }

    #[test]
    fn weights_are_finite_and_not_negative() {
        assert_eq!(weight(b""), Ok(1.0));
        assert_eq!(weight(b"0.1"), Ok(0.1));
        assert_eq!(weight(b"1e3"), Ok(1000.0));
        assert_eq!(weight(b"-0").unwrap().to_bits(), 0);
        assert_eq!(weight(b"-1e-400").unwrap().to_bits(), 0);
        assert_eq!(weight(b"123456789012345678"), Ok(123_456_789_012_345_680.0));
        assert_eq!(weight(b"-1"), Err(Reason::WeightNegative));
        for text in ["nan", "inf", "-inf", "1e999"] {
            assert_eq!(weight(text.as_bytes()), Err(Reason::WeightNotFinite), "{text}");
        }
        for text in [" 1", "1 ", "1,5", "0x10", "e", "-", "1_000"] {
            assert_eq!(weight(text.as_bytes()), Err(Reason::WeightUnreadable), "{text}");
        }
    }

    #[test]
    fn ids_of_128_bits_are_integers_and_the_rest_is_hashed() {
        for value in [0, 42, u128::from(u64::MAX), 10_u128.pow(38), u128::MAX] {
            assert_eq!(id(value.to_string().as_bytes()), Ok(Some(value)));
        }
        assert_eq!(id(b""), Ok(None));
        for text in ["340282366920938463463374607431768211456", "7f3a", "-1"] {
            let head: [u8; 16] = blake3::hash(text.as_bytes()).as_bytes()[..16].try_into().unwrap();
            assert_eq!(id(text.as_bytes()), Ok(Some(u128::from_le_bytes(head))), "{text}");
        }
        assert_eq!(id(b"\xff"), Err(Reason::NotUtf8));
    }
}
