//! One reader's way to every shard: ask the owner, or scatter over all and gather.
//!
//! Promises: a question goes to the shard that owns the entity; a matrix comes back in the order of
//! the entities asked for; after an error, or a future dropped half-way, the reader can be used
//! again.

use crate::Placement;
use ebbtide_shard::doorbell::Doorbell;
use ebbtide_shard::lane::{RequestSender, request_lane};
use ebbtide_shard::port::Mail;
use ebbtide_shard::request::{Question, Reply, Request, Rows};
use ebbtide_shard::{
    EntityHash, EntityId, Feature, PartitionKey, Ranked, ShardDown, ShardPort, SignalId, Timestamp,
    TopEntry,
};
use std::sync::Arc;
use std::task::{Context, Poll};

/// One reader's lanes.
#[derive(Debug)]
pub struct RequestRouter {
    placement: Placement,
    key: PartitionKey,
    lanes: Box<[Lane]>,
    bell: Arc<Doorbell>,
    /// The hashes of the entities of the last matrix.
    hashes: Vec<EntityHash>,
    /// The best of each shard in the last ranking.
    ranked: Vec<Ranked>,
}

#[derive(Debug)]
struct Lane {
    sender: RequestSender,
    /// How often to look for a reply before sleeping.
    looks_max: u32,
    /// Which rows of the caller's matrix this shard fills.
    positions: Vec<usize>,
    /// The buffers of the last matrix, for the next.
    spare: Rows,
    /// The buffer of the last list of the best, for the next.
    top: Vec<TopEntry>,
}

impl RequestRouter {
    /// Opens a lane to every shard.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    ///
    /// # Panics
    ///
    /// If there is not one port for each shard.
    pub fn open(
        ports: &[Arc<ShardPort>],
        placement: Placement,
        key: PartitionKey,
    ) -> Result<Self, ShardDown> {
        assert_eq!(ports.len(), placement.shards(), "a port for every shard");
        let bell = Arc::new(Doorbell::default());
        let mut lanes = Vec::with_capacity(ports.len());
        for port in ports {
            let (sender, inbox) = request_lane(Arc::clone(port), Arc::clone(&bell));
            port.post(Mail::Requests(inbox))?;
            let (positions, spare, top) = (Vec::new(), Rows::default(), Vec::new());
            lanes.push(Lane { sender, looks_max: 0, positions, spare, top });
        }
        let (lanes, hashes, ranked) = (lanes.into(), Vec::new(), Vec::new());
        Ok(Self { placement, key, lanes, bell, hashes, ranked })
    }

    /// The same, for a thread of its own: it looks for the reply of a shard as often as this says
    /// before it sleeps, since a shard that is awake answers sooner than a sleeper is woken.
    #[must_use]
    pub fn looking(mut self, looks_max: impl Fn(usize) -> u32) -> Self {
        for (shard, lane) in self.lanes.iter_mut().enumerate() {
            lane.looks_max = looks_max(shard);
        }
        self
    }

    /// Asks for one pair as of `now` and waits until its answer is there, or none will come: what
    /// is given back takes it. A reading is long, and futures copy what they end with.
    pub async fn answered_pair(
        &mut self,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> &mut RequestSender {
        self.settle().await;
        let hash = self.key.hash(entity);
        let shard = self.placement.shard(hash);
        let question = Question { entity, hash, signal, now };
        let sender = &mut self.lanes[shard].sender;
        if !sender.is_abandoned() {
            sender.ask_pair(question);
        }
        self.settled(shard).await;
        &mut self.lanes[shard].sender
    }

    /// Fills `out`, row after row in the order of `entities`, with the numbers that `columns` name.
    ///
    /// # Errors
    ///
    /// If a shard that owns one of the entities is down; `out` is then partly filled.
    ///
    /// # Panics
    ///
    /// If `out` does not have a place for each column of each entity.
    pub async fn read_rows(
        &mut self,
        entities: &[EntityId],
        columns: &Arc<[Feature]>,
        now: Timestamp,
        out: &mut [f64],
    ) -> Result<(), ShardDown> {
        let width = columns.len();
        assert_eq!(out.len(), entities.len() * width, "a place for each column of each entity");
        self.settle().await;
        self.scatter(entities, columns);
        for shard in 0..self.lanes.len() {
            if !self.lanes[shard].positions.is_empty() {
                let rows = std::mem::take(&mut self.lanes[shard].spare);
                self.ask(shard, Request::ReadRows { rows, now });
            }
        }
        let mut outcome = Ok(());
        for shard in 0..self.lanes.len() {
            let positions = std::mem::take(&mut self.lanes[shard].positions);
            if !positions.is_empty() {
                let gathered = self.gather(shard, &positions, width, out).await;
                outcome = outcome.and(gathered);
            }
            self.lanes[shard].positions = positions;
        }
        outcome
    }

    /// Fills `best` with the best of `entities` by the sum of the numbers that `columns` name, each
    /// times its weight: best first, ties by the smaller id. Says how many there are. Each shard
    /// sends its best only.
    ///
    /// # Errors
    ///
    /// If a shard that owns one of the entities is down.
    pub async fn rank(
        &mut self,
        entities: &[EntityId],
        (columns, weights): (&Arc<[Feature]>, &[f64]),
        now: Timestamp,
        best: &mut [Ranked],
    ) -> Result<usize, ShardDown> {
        self.settle().await;
        self.scatter(entities, columns);
        for shard in 0..self.lanes.len() {
            if !self.lanes[shard].positions.is_empty() {
                let mut rows = std::mem::take(&mut self.lanes[shard].spare);
                rows.weights.clear();
                rows.weights.extend_from_slice(weights);
                self.ask(shard, Request::Rank { rows, k: best.len(), now });
            }
        }
        self.ranked.clear();
        let mut outcome = Ok(());
        for shard in 0..self.lanes.len() {
            if self.lanes[shard].positions.is_empty() {
                continue;
            }
            match self.reply(shard).await {
                Ok(Reply::Rows(rows)) => {
                    self.ranked.extend_from_slice(&rows.ranked);
                    self.lanes[shard].spare = rows;
                }
                Ok(other) => unreachable!("a ranking was asked for, {other:?} came back"),
                Err(down) => outcome = Err(down),
            }
        }
        Ranked::keep_best(&mut self.ranked, best.len());
        best[..self.ranked.len()].copy_from_slice(&self.ranked);
        outcome.map(|()| self.ranked.len())
    }

    /// The best `k` entities by one score, over all shards, best first.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    pub async fn top_k(
        &mut self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<TopEntry>, ShardDown> {
        self.settle().await;
        for shard in 0..self.lanes.len() {
            let entries = std::mem::take(&mut self.lanes[shard].top);
            self.ask(shard, Request::Top { signal, half_life, k, now, entries });
        }
        let mut best = Vec::with_capacity(self.lanes.len() * k);
        let mut outcome = Ok(());
        for shard in 0..self.lanes.len() {
            match self.reply(shard).await {
                Ok(Reply::Top(entries)) => {
                    best.extend_from_slice(&entries);
                    self.lanes[shard].top = entries;
                }
                Ok(other) => unreachable!("a ranking was asked for, {other:?} came back"),
                Err(down) => outcome = Err(down),
            }
        }
        TopEntry::keep_best(&mut best, k);
        outcome.map(|()| best)
    }

    /// Gives each shard its part of a matrix to fill.
    fn scatter(&mut self, entities: &[EntityId], columns: &Arc<[Feature]>) {
        let Self { lanes, key, placement, hashes, .. } = self;
        hashes.resize(entities.len(), EntityHash(0));
        key.hash_all(entities, hashes);
        for lane in lanes.iter_mut() {
            lane.positions.clear();
            lane.spare.entities.clear();
            lane.spare.columns = Arc::clone(columns);
        }
        for (position, (&entity, &hash)) in entities.iter().zip(&*hashes).enumerate() {
            let lane = &mut lanes[placement.shard(hash)];
            lane.positions.push(position);
            lane.spare.entities.push((hash, entity));
        }
        for Lane { spare: Rows { entities, values, .. }, .. } in lanes.iter_mut() {
            values.resize(entities.len() * columns.len(), 0.0);
        }
    }

    async fn gather(
        &mut self,
        shard: usize,
        positions: &[usize],
        width: usize,
        out: &mut [f64],
    ) -> Result<(), ShardDown> {
        match self.reply(shard).await? {
            Reply::Rows(rows) => {
                if rows.values.len() == out.len() {
                    // They are all of one shard, and so in their order.
                    out.copy_from_slice(&rows.values);
                } else {
                    let values = rows.values.chunks_exact(width.max(1));
                    for (&position, row) in positions.iter().zip(values) {
                        out[position * width..][..width].copy_from_slice(row);
                    }
                }
                self.lanes[shard].spare = rows;
                Ok(())
            }
            other @ Reply::Top(_) => unreachable!("rows were asked for, {other:?} came back"),
        }
    }

    /// Waits for replies that nobody took, because a future was dropped, and throws them away.
    async fn settle(&mut self) {
        for shard in 0..self.lanes.len() {
            if self.lanes[shard].sender.is_open() {
                let _stale = self.reply(shard).await;
            }
        }
    }

    fn ask(&mut self, shard: usize, request: Request) {
        let lane = &mut self.lanes[shard];
        // To a shard that is gone nothing is sent: the reply is already settled.
        if !lane.sender.is_abandoned() {
            lane.sender.ask(request);
        }
    }

    async fn reply(&mut self, shard: usize) -> Result<Reply, ShardDown> {
        self.settled(shard).await;
        // A shard that goes away may have answered before it did.
        let sender = &mut self.lanes[shard].sender;
        sender.take_reply().ok_or_else(|| sender.port().why_down())
    }

    /// Waits until the answer of a shard is there, or none will come.
    async fn settled(&mut self, shard: usize) {
        std::future::poll_fn(|cx| self.poll_settled(shard, cx)).await;
    }

    fn poll_settled(&mut self, shard: usize, cx: &Context<'_>) -> Poll<()> {
        let Lane { sender, looks_max, .. } = &self.lanes[shard];
        for _ in 0..*looks_max {
            if sender.is_settled() {
                return Poll::Ready(());
            }
            std::hint::spin_loop();
        }
        self.bell.poll_work(cx, || sender.is_settled())
    }
}
