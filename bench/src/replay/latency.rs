//! What a run's events had to wait, collected in one histogram per recording thread.

use ebbtide::Timestamp;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Longest latency told apart; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// Latencies of one recording thread, or of all.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    /// Events sent.
    pub(super) sent: u64,
    /// The newest time of an event sent.
    pub(super) newest: Timestamp,
    /// Times a ring was found full.
    pub(super) full: u64,
}

impl Latencies {
    /// Without any latency yet.
    ///
    /// # Panics
    ///
    /// Never: the bounds of the histogram are constants it accepts.
    #[must_use]
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Self {
            histogram: histogram.expect("the bounds are valid"),
            sent: 0,
            newest: Timestamp(0),
            full: 0,
        }
    }

    /// Counts one latency.
    pub(super) fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        self.histogram.saturating_record(ns);
    }

    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.sent += other.sent;
        self.newest = self.newest.max(other.newest);
        self.full += other.full;
    }

    /// The usual percentiles.
    #[must_use]
    pub(super) fn percentiles(&self) -> Percentiles {
        let us = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            samples: self.histogram.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of latency, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// Events measured.
    pub(super) samples: u64,
    /// Half of the events waited no longer.
    pub(super) p50_us: f64,
    /// Nine in ten.
    pub(super) p90_us: f64,
    /// 99 in a hundred.
    pub(super) p99_us: f64,
    /// 999 in a thousand.
    pub(super) p999_us: f64,
    /// The longest.
    pub(super) max_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (Latencies::new(), Latencies::new());
        for us in 1..=50 {
            one.record(Duration::from_micros(us));
            other.record(Duration::from_micros(us + 50));
        }
        one.add(&other);
        let percentiles = one.percentiles();
        assert_eq!(percentiles.samples, 100);
        assert!(
            (percentiles.p50_us - 50.0).abs() < 0.1 && (percentiles.max_us - 100.0).abs() < 0.1
        );
        one.record(Duration::MAX);
        assert!(one.percentiles().max_us > 3.59e9);
    }
}
