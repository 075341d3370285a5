//! The manifest: who a store is. Written once, last of all when a store is made.
//!
//! ```text
//! offset  0            8            12      16            32                 48      96
//!         | "EBBTIDE\0" | format u32 | zero | store id 16 | partition key 16 | zero | BLAKE3 32 |
//! ```
//!
//! Promises: a directory with a manifest is a whole store; the manifest never changes, so no crash
//! can tear it. A flipped bit is told from a newer format.
//! Invariants: [`MANIFEST_BYTES`] bytes; all but the hash itself are under the hash.
//! Fails by: [`StoreError`]. Not here: the schema, which may change: it stands in the checkpoint.
//! Source: none.

use super::StoreError;
use super::files::{self, StoreFiles};
use ebbtide_shard::PartitionKey;
use ebbtide_wal::StoreId;

/// The format this version writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

const MANIFEST_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"EBBTIDE\0";
const FORMAT_AT: usize = 8;
const STORE_AT: usize = 16;
const KEY_AT: usize = 32;
const HASH_AT: usize = 96;
const CONTEXT: &str = "ebbtide manifest v1";

const _: () = {
    assert!(HASH_AT + 32 == MANIFEST_BYTES);
    assert!(KEY_AT + 16 <= HASH_AT);
};

/// A store's identity.
#[derive(Clone, Copy)]
pub(crate) struct Manifest {
    /// Random; logs and checkpoints carry it, so that files of two stores cannot be mixed up.
    pub(crate) store: StoreId,
    key: [u8; 16],
}

impl Manifest {
    /// The identity of a new store.
    pub(crate) fn random() -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| StoreError::Random { why: e.to_string() })?;
        Ok(Self { store: StoreId(half(&bytes, 0)), key: half(&bytes, 16) })
    }

    /// The identity of a new store that places its entities as this one does.
    pub(crate) fn renewed(&self) -> Result<Self, StoreError> {
        Ok(Self { key: self.key, ..Self::random()? })
    }

    /// The manifest whose bytes at `files` have one flipped bit, if it is no more than that.
    pub(crate) fn mended(files: &StoreFiles) -> Option<Self> {
        let bytes = files::read_short(&files.manifest(), MANIFEST_BYTES).ok()??;
        let mut bytes = <[u8; MANIFEST_BYTES]>::try_from(bytes).ok()?;
        (0..MANIFEST_BYTES * 8).find_map(|bit| {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mended = Self::decode(&bytes).ok();
            bytes[bit / 8] ^= 1 << (bit % 8);
            mended
        })
    }

    /// The key entities are hashed under.
    pub(crate) fn partition_key(&self) -> PartitionKey {
        PartitionKey::new(self.key)
    }

    /// The manifest of the store at `files`; `None` if there is none.
    pub(crate) fn read(files: &StoreFiles) -> Result<Option<Self>, StoreError> {
        let path = files.manifest();
        let Some(bytes) = files::read_short(&path, MANIFEST_BYTES)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(|fault| match fault {
            Fault::Damaged(what) => StoreError::ManifestDamaged { path, what },
            Fault::Newer(found) => StoreError::UnsupportedFormat { path, found, newest: FORMAT },
        })
    }

    /// Whether a store is being made at `files`, or a crash ended that.
    pub(crate) fn has_begun(files: &StoreFiles) -> Result<bool, StoreError> {
        let bytes = files::read_short(&files.next_manifest(), MANIFEST_BYTES)?;
        // Written in one piece before anything else: shorter, if that is where the crash was.
        Ok(bytes.is_some_and(|bytes| {
            bytes.len() <= MANIFEST_BYTES && MAGIC.starts_with(&bytes[..bytes.len().min(8)])
        }))
    }

    /// Says that a store is being made at `files`.
    pub(crate) fn begin(&self, files: &StoreFiles) -> Result<(), StoreError> {
        files::put(&files.next_manifest(), &self.encode())
    }

    /// Makes the store at `files` exist.
    pub(crate) fn finish(files: &StoreFiles) -> Result<(), StoreError> {
        files::rename(&files.next_manifest(), &files.manifest())
    }

    fn encode(&self) -> [u8; MANIFEST_BYTES] {
        let mut bytes = [0; MANIFEST_BYTES];
        bytes[..FORMAT_AT].copy_from_slice(MAGIC);
        bytes[FORMAT_AT..FORMAT_AT + 4].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[STORE_AT..KEY_AT].copy_from_slice(&self.store.0);
        bytes[KEY_AT..KEY_AT + 16].copy_from_slice(&self.key);
        let hash = hash(&bytes[..HASH_AT]);
        bytes[HASH_AT..].copy_from_slice(&hash);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let word = bytes.get(FORMAT_AT..FORMAT_AT + 4).and_then(|word| word.try_into().ok());
        let Some(format) = word.map(u32::from_le_bytes) else {
            return Err(Fault::Damaged("it is too short"));
        };
        let Ok(bytes) = <&[u8; MANIFEST_BYTES]>::try_from(bytes) else {
            let newer = bytes.starts_with(MAGIC) && format > FORMAT;
            return Err(if newer { Fault::Newer(format) } else { Fault::Damaged("its length") });
        };
        let mut as_ours = *bytes;
        as_ours[FORMAT_AT..FORMAT_AT + 4].copy_from_slice(&FORMAT.to_le_bytes());
        let ours = hash(&as_ours[..HASH_AT])[..] == bytes[HASH_AT..];
        match (ours, format) {
            (true, FORMAT) => {
                Ok(Self { store: StoreId(half(bytes, STORE_AT)), key: half(bytes, KEY_AT) })
            }
            // Whole but for the number: that is a flipped bit, not a newer version.
            (true, _) => Err(Fault::Damaged("its format number")),
            (false, newer) if newer > FORMAT && bytes.starts_with(MAGIC) => {
                Err(Fault::Newer(newer))
            }
            (false, _) => Err(Fault::Damaged("its hash does not match")),
        }
    }
}

enum Fault {
    Damaged(&'static str),
    Newer(u32),
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    blake3::Hasher::new_derive_key(CONTEXT).update(bytes).finalize().into()
}

fn half(bytes: &[u8], at: usize) -> [u8; 16] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest { store: StoreId([1; 16]), key: [2; 16] }
    }

    #[test]
    fn the_bytes_are_frozen_and_come_back() {
        const DIGEST: &str = "a84923bd32d54967eace2f27500aed49b6b212d759e72d93bb870d5a7ad3f087";
        let bytes = manifest().encode();
        assert_eq!(bytes[..16], *b"EBBTIDE\0\x01\0\0\0\0\0\0\0");
        assert_eq!(bytes[16..32], [1; 16]);
        assert_eq!(bytes[32..48], [2; 16]);
        assert_eq!(bytes[48..96], [0; 48]);
        let digest = blake3::Hash::from_slice(&bytes[96..]).unwrap();
        assert_eq!(digest.to_hex().as_str(), DIGEST);
        let Ok(read) = Manifest::decode(&bytes) else { panic!("it was just written") };
        assert_eq!((read.store, read.key), (StoreId([1; 16]), [2; 16]));
    }

    #[test]
    fn the_documented_manifest_is_the_one_written() {
        let bytes = manifest().encode();
        let (_, table) = include_str!("../../../docs/FORMAT.md")
            .split_once("Bytes of the manifest:\n\n| offset | bytes | field |\n|---|---|---|\n")
            .unwrap();
        let mut next = 0;
        for row in table.lines().take_while(|line| line.starts_with('|')) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let (at, length): (usize, usize) =
                (cells[1].parse().unwrap(), cells[2].parse().unwrap());
            assert_eq!(at, next, "{row}");
            next = at + length;
            let name = cells[3].split(':').next().unwrap();
            let want = match name {
                "magic" => MAGIC.to_vec(),
                "format version" => FORMAT.to_le_bytes().to_vec(),
                "zero" => vec![0; length],
                "store id" => vec![1; 16],
                "partition key" => vec![2; 16],
                "hash" => hash(&bytes[..at]).to_vec(),
                other => panic!("no field is called {other}"),
            };
            assert_eq!(bytes[at..next], want, "{row}");
        }
        assert_eq!(next, MANIFEST_BYTES);
    }

    #[test]
    fn every_flipped_bit_is_damage_and_no_newer_format() {
        let bytes = manifest().encode();
        for bit in 0..MANIFEST_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Manifest::decode(&bad), Err(Fault::Damaged(_))), "bit {bit}");
        }
        for cut in 0..MANIFEST_BYTES {
            assert!(matches!(Manifest::decode(&bytes[..cut]), Err(Fault::Damaged(_))), "{cut}");
        }
    }

    #[test]
    fn one_flipped_bit_is_mended_and_two_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let written = |flipped: &[usize]| {
            let mut bytes = manifest().encode();
            for bit in flipped {
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            files::put(&files.manifest(), &bytes).unwrap();
            Manifest::mended(&files).map(|mended| (mended.store, mended.key))
        };
        let sound = Some((StoreId([1; 16]), [2; 16]));
        assert!((0..MANIFEST_BYTES * 8).step_by(41).all(|bit| written(&[bit]) == sound));
        assert_eq!(written(&[40, 300]), None);
    }

    #[test]
    fn a_newer_format_is_told_as_such() {
        let mut newer = manifest().encode();
        newer[FORMAT_AT] = 2;
        newer[HASH_AT..].fill(7);
        assert!(matches!(Manifest::decode(&newer), Err(Fault::Newer(2))));
        assert!(matches!(Manifest::decode(&newer[..40]), Err(Fault::Newer(2))));
    }
}
