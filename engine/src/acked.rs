//! How far events have come, and waiting for it: what both kinds of producers share.

use crate::block_on::block_on_for;
use crate::{AckError, Ticket, WaitError};
use ebbtide_router::EventRouter;
use ebbtide_shard::ShardPort;
use ebbtide_shard::lane::Level;
use ebbtide_shard::watermark::Watermark;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ack {
    /// It is in the shard's ring. Having a ticket means it is.
    Accepted,
    /// It is applied: every read that begins now sees it.
    Applied,
    /// It is written to the log: it survives the end of the process, `kill -9` included. An engine
    /// that lives in memory keeps no log, so nothing comes so far.
    Written,
    /// It is on the device: it survives power loss. Without a log nothing comes so far.
    Durable,
}

impl Ack {
    /// The watermark that tells it.
    fn level(self) -> Level {
        match self {
            Self::Accepted | Self::Applied => Level::Applied,
            Self::Written => Level::Written,
            Self::Durable => Level::Durable,
        }
    }
}

/// One producer's view of how far its events have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress<'p> {
    pub(crate) lanes: &'p EventRouter,
    /// Whether the engine keeps a log.
    pub(crate) has_log: bool,
}

impl Progress<'_> {
    pub(crate) fn acked(self, ticket: Ticket, ack: Ack) -> Acked {
        let (port, watermark, number) = self.lanes.reached(ticket, ack.level());
        let number = if ack == Ack::Accepted { 0 } else { number };
        let can_be = self.can_be(ack);
        Acked { port: Arc::clone(port), watermark: Arc::clone(watermark), number, can_be }
    }

    /// Whether events ever come so far.
    fn can_be(self, ack: Ack) -> bool {
        self.has_log || ack.level() == Level::Applied
    }

    pub(crate) fn is_acked(self, ticket: Ticket, ack: Ack) -> bool {
        let (_, watermark, number) = self.lanes.reached(ticket, ack.level());
        ack == Ack::Accepted || watermark.reached() >= number
    }

    pub(crate) fn wait(
        self,
        ticket: Ticket,
        ack: Ack,
        patience: Duration,
    ) -> Result<(), WaitError> {
        match block_on_for(self.acked(ticket, ack), patience) {
            Some(outcome) => Ok(outcome?),
            None => Err(WaitError::Timeout { patience }),
        }
    }

    pub(crate) fn flush(self, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        if !self.can_be(ack) {
            return Err(WaitError::NoLog);
        }
        let begun = Instant::now();
        self.lanes.last_tickets().try_for_each(|ticket| {
            self.wait(ticket, ack, patience.saturating_sub(begun.elapsed())).map_err(|error| {
                match error {
                    WaitError::Timeout { .. } => WaitError::Timeout { patience },
                    other => other,
                }
            })
        })
    }

    /// When a shard whose ring is full has room again.
    pub(crate) fn room(self, shard: usize) -> Acked {
        self.acked(self.lanes.next_room(shard), Ack::Applied)
    }
}

/// Offers again and again for as long as `full` names what to wait for, up to `patience`.
pub(crate) fn offer_within<P, T, E>(
    producer: &mut P,
    patience: Duration,
    mut offer: impl FnMut(&mut P) -> Result<T, E>,
    full: impl Fn(&P, &E) -> Option<Acked>,
) -> Result<T, E> {
    let begun = Instant::now();
    loop {
        let error = match offer(producer) {
            Err(error) => error,
            taken => return taken,
        };
        let Some(room) = full(producer, &error) else { return Err(error) };
        if block_on_for(room, patience.saturating_sub(begun.elapsed())).is_none() {
            return Err(error);
        }
    }
}

/// A future of an event having come as far as was asked; see [`crate::Producer::acked`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Acked {
    port: Arc<ShardPort>,
    watermark: Arc<Watermark>,
    number: u64,
    /// Whether events ever come as far as was asked.
    can_be: bool,
}

impl Future for Acked {
    type Output = Result<(), AckError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.can_be {
            return Poll::Ready(Err(AckError::NoLog));
        }
        let reached = self.watermark.poll_reached(self.number, cx);
        reached.map(|outcome| outcome.map_err(|_abandoned| self.port.why_down().into()))
    }
}
