//! Every bound of the shard, in one place, followed by the relations between them.
//!
//! Promises: no other file of this crate spells a limit as a number. A relation that a change
//! breaks fails the build with the reason beside it.

/// Fixed partitions of the entity space; a shard owns a contiguous range of them.
pub const PARTITIONS: usize = 4096;
/// Bits of the routing hash that name the partition (the top ones).
pub const PARTITION_BITS: u32 = 12;
/// Shards an engine may have: each owns at least one partition.
pub const SHARDS_MAX: usize = 1024;

/// Signal types in one schema.
pub const SIGNALS_MAX: usize = 64;
/// Signal types a store can have known in its life: a stored number is one byte.
pub const STORED_SIGNALS_MAX: usize = 256;
/// Half-lives of one signal type.
pub const HALF_LIVES_MAX: usize = 3;
/// Windows of one signal type.
pub const WINDOWS_MAX: usize = 16;
/// Bytes in the name of a signal type.
pub const SIGNAL_NAME_BYTES_MAX: usize = 64;

/// Nanoseconds in a minute, the width of a fine bucket.
pub const MINUTE_NS: u64 = 60 * 1_000_000_000;
/// Nanoseconds in an hour, the width of a coarse bucket.
pub const HOUR_NS: u64 = 60 * MINUTE_NS;
/// Per-minute buckets of one pair: windows up to one hour.
pub const MINUTE_BUCKETS: usize = 60;
/// Per-hour buckets of one pair: windows up to seven days.
pub const HOUR_BUCKETS: usize = 168;
/// All buckets of one pair.
pub const BUCKETS: usize = MINUTE_BUCKETS + HOUR_BUCKETS;

/// Shortest half-life. Below it the phase of a timestamp would not fit its integer part.
pub const HALF_LIFE_NS_MIN: u64 = 1_000_000;
/// Longest half-life: one hundred years of 365 days.
pub const HALF_LIFE_NS_MAX: u64 = 100 * 365 * 24 * HOUR_NS;
/// Half-lives between two landmarks, as a power of two.
pub const LANDMARK_BITS: u32 = 9;
/// Largest weight of one event.
pub const WEIGHT_MAX: f64 = 1e15;

/// Entities a `top_k` can return.
pub const TOP_K_MAX: usize = 128;
/// Candidates kept per ranking before the weaker half is let go.
pub const TOP_CANDIDATES_MAX: usize = 2 * TOP_K_MAX;

/// Ids in one of the two generations a shard remembers: at least so many of the last ones are
/// known. A generation takes 30 MiB, reserved when its first id comes.
pub const IDS_PER_GENERATION: usize = 1 << 20;

/// Entries of a group of the index of pairs: one cache line of them.
pub const GROUP_ENTRIES: usize = 8;
/// Groups of a segment of the index, as a power of two. A growing index moves the entries of one
/// segment at a time.
pub const SEGMENT_GROUP_BITS: u32 = 9;
/// Groups of a segment.
pub const SEGMENT_GROUPS: usize = 1 << SEGMENT_GROUP_BITS;
/// Entries of a segment.
pub const SEGMENT_ENTRIES: usize = SEGMENT_GROUPS * GROUP_ENTRIES;
/// Groups of an index that may be filled further than others, as a power of two.
pub const SMALL_INDEX_BITS: u32 = 6;
/// Bits of a mark that choose the segment, at most.
pub const DIRECTORY_BITS_MAX: u32 = 20;
/// Bits of a block's index: pairs of a shard, and blocks of one class.
pub const BLOCK_INDEX_BITS: u32 = 29;
/// Bytes up to which blocks move as they grow, and take just what they need. Beyond, they move no
/// more, where addresses can be reserved.
pub const SMALL_BLOCKS_BYTES: usize = 64 << 10;
/// Bytes of addresses that are reserved for blocks of one kind, at most. Bounds what the seven
/// kinds of each shard take of the addresses of a process.
pub const RESERVED_BYTES_MAX: usize = 64 << 30;
/// Bytes of a cache line.
pub const CACHE_LINE_BYTES: usize = 64;
/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a huge page.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Events taken from the rings in one turn. Bounds how long a read waits behind writes.
pub const BATCH_EVENTS_MAX: usize = 512;
/// Slots in the ring between one producer and one shard.
pub const EVENT_RING_SLOTS: usize = 8192;
/// Events of a batch that are put in a ring at once.
pub const EVENT_CHUNK: usize = 64;
/// Bytes in the name of a source.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;
/// Sources a store may ever have known: each keeps a number, or more, on every shard for good.
pub const SOURCES_MAX: usize = 4096;
/// Offsets of a source after which it tells lanes that lag behind how far it has come. Bounds what
/// a quiet shard may ask to be sent again.
pub const MARK_OFFSETS_MAX: u64 = 4096;
/// Requests one reader may have open at one shard.
pub const REQUEST_RING_SLOTS: usize = 4;
/// Turns without work before a shard parks: with the looks between them some microseconds.
pub const IDLE_TURNS_BEFORE_PARK: u32 = 8;
/// How often a shard looks for work after a turn without any, before the next.
pub const LOOKS_PER_IDLE_TURN: u32 = 16;

/// Pairs that one step of a checkpoint's walk writes out. Bounds what a turn spends on it.
pub const WALK_RECORDS_MAX: usize = 512;
/// Slots that one step of a checkpoint's walk looks at.
pub const WALK_SLOTS_MAX: usize = 8192;
/// Pairs in one record of the checkpoint. Bounds what is lost with one.
pub const PAGE_PAIRS_MAX: usize = 256;
/// What is hashed of a page when it takes no more pairs: as many chunks as AVX-512 hashes side by
/// side, in the time of one. A little less takes three times as long.
pub const PAGE_HASHED_BYTES: usize = 16 << 10;
/// Pages for each full one that all pairs would take. With more they are mostly empty, and all are
/// written anew.
pub const PAGES_FOR_FULL_MAX: u64 = 8;
/// So few pages are never too many.
pub const PAGES_FEW: u64 = 1024;
/// Bytes of records that are copied to another storage in one batch, give or take a record.
pub const COPIED_BYTES_MAX: usize = 1 << 20;
/// So few bytes of pairs are not worth a storage of their own, however old they are: making one
/// takes dozens of syncs.
pub const STORED_BYTES_FEW: u64 = 1 << 20;
/// Pages that are let go of in one batch.
pub const PAGES_DROPPED_MAX: usize = 1 << 14;
/// Bytes of one value in the checkpoint. Bounds what is read before anything is known of it.
pub const RECORD_VALUE_BYTES_MAX: usize = 1 << 20;
/// Remembered ids in one record.
pub const IDS_RECORD_ENTRIES_MAX: usize = 4096;
/// Bytes of pairs that are collected, sorted and written to the checkpoint at once, give or take a
/// step of a walk. Bounds the memory a checkpoint takes: it holds them twice until it is finished,
/// beside what is on its way to it.
pub const RUN_BYTES_MAX: usize = 48 << 20;
/// Parts of a checkpoint that a shard keeps until the log is durable up to them.
pub const SAVE_PARTS_WAITING_MAX: usize = 4;

const _: () = {
    assert!(PARTITIONS == 1 << PARTITION_BITS);
    assert!(SHARDS_MAX <= PARTITIONS);
    // A signal id travels as one byte.
    assert!(SIGNALS_MAX <= 256);
    // So does a stored number.
    assert!(STORED_SIGNALS_MAX == 256 && SIGNALS_MAX <= STORED_SIGNALS_MAX);
    // The index over a generation holds positions of 32 bits, also for all ids that a store of the
    // most shards hands to one.
    assert!(2 * SHARDS_MAX * IDS_PER_GENERATION < 1 << 32);
    // As many pairs as there may be need a quarter of the directory.
    assert!((SEGMENT_ENTRIES / 2) << DIRECTORY_BITS_MAX >= 1 << (BLOCK_INDEX_BITS + 2));
    assert!(SMALL_INDEX_BITS < SEGMENT_GROUP_BITS);
    // Segment and group are chosen by bits of their own.
    assert!(DIRECTORY_BITS_MAX + SEGMENT_GROUP_BITS <= 32);
    // A page too many is no more than growth by a sixteenth takes too much.
    assert!(SMALL_BLOCKS_BYTES / 16 >= PAGE_BYTES && SMALL_BLOCKS_BYTES < HUGE_PAGE_BYTES);
    // A minute since the epoch fits 32 bits.
    assert!(u64::MAX / MINUTE_NS < 1 << 32);
    // Windows that minute buckets cannot hold begin where hour buckets resolve them.
    assert!(MINUTE_BUCKETS as u64 * MINUTE_NS == HOUR_NS);
    // A bucket position is one byte.
    assert!(BUCKETS <= 256);
    // The largest sum a score can hold: 2^64 events of the largest weight (under 2^50), each aged
    // by up to 2^512 past its landmark. It stays below 2^1023, so no score ever overflows.
    assert!(WEIGHT_MAX < (1u64 << 50) as f64);
    assert!(64 + 50 + (1 << LANDMARK_BITS) < 1023);
    // The phase of any u64 nanosecond fits 64 bits of whole half-lives with room for the exponent
    // arithmetic of rankings.
    assert!(u64::MAX / HALF_LIFE_NS_MIN < 1 << 45);
    // A list cut back to its best half still holds every entity a caller may ask for.
    assert!(TOP_CANDIDATES_MAX >= 2 * TOP_K_MAX);
    // The smallest group of a log takes the name of a source, and some events with all they carry.
    assert!(2 * (SOURCE_NAME_BYTES_MAX + 64) < ebbtide_wal::limits::GROUP_BYTES_MIN);
    // A dirty pair is found sooner or later, and a step is not all looking.
    assert!(WALK_SLOTS_MAX >= WALK_RECORDS_MAX);
    // The largest records of ids (20 bytes for each), of a source (10 for each partition) and of
    // pairs (60 for each, and 5 for each bucket) fit.
    assert!(IDS_RECORD_ENTRIES_MAX * 20 < RECORD_VALUE_BYTES_MAX / 2);
    assert!(PARTITIONS * 10 < RECORD_VALUE_BYTES_MAX / 2);
    assert!(PAGE_PAIRS_MAX * (60 + BUCKETS * 5) < RECORD_VALUE_BYTES_MAX / 2);
    // Full pages of format 2, of 64 pairs, are not mostly empty.
    assert!(PAGES_FOR_FULL_MAX * 64 * 60 > PAGE_HASHED_BYTES as u64);
    // Producers can refill a ring while the previous batch is being applied.
    assert!(EVENT_RING_SLOTS >= 2 * BATCH_EVENTS_MAX);
    assert!(EVENT_CHUNK >= 1 && EVENT_CHUNK <= BATCH_EVENTS_MAX);
};
