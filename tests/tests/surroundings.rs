//! Stores in surroundings that a host may meet: file systems that keep less than others, that are
//! nearly full or read-only, files of other users.
//!
//! Each test runs in a process and on mounts of its own, so nothing of this machine is changed;
//! where mounts are not to be had, it says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::{Ack, Backend, Durability, Engine, Medium, OpenError, Survives};
use ebbtide_tests::alone::alone;
use ebbtide_tests::crash::{Truth, builder, held, record};
use ebbtide_tests::setting::{PATIENCE, backends};
use std::path::Path;

const SEED: u64 = 11;
const EVENTS: u64 = 400;

fn open(directory: &Path, backend: Backend) -> Result<Engine, OpenError> {
    builder(directory).shards(2).backend(backend).open()
}

/// What an engine says of a store there, once its process could have ended.
fn said_on_each_runtime(place: &Path) -> Vec<Durability> {
    let said = backends().into_iter().map(|backend| {
        let directory = place.join(format!("{backend:?}"));
        let engine = open(&directory, backend).unwrap();
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        let said = engine.durability().unwrap().clone();
        println!("{backend:?}: {said}");
        engine.close(PATIENCE).unwrap();
        let again = open(&directory, Backend::Threads).unwrap();
        assert_eq!(held(&again), Truth::of(SEED, EVENTS, 0).last());
        said
    });
    said.collect()
}

#[test]
fn on_tmpfs_the_engine_says_that_durable_survives_the_process_only() {
    let name = "on_tmpfs_the_engine_says_that_durable_survives_the_process_only";
    let Some(place) = alone(name, "mount -t tmpfs -o size=256m none $PLACE") else { return };
    for said in said_on_each_runtime(&place) {
        assert_eq!((&*said.file_system, said.medium), ("tmpfs", Medium::Memory));
        assert!(!said.direct_io);
        assert_eq!(said.durable(), Survives::ProcessEnd);
        assert!(said.to_string().contains("files in memory"), "{said}");
    }
}

#[test]
fn on_ext4_durable_survives_a_power_cut_and_written_a_kernel_panic() {
    let name = "on_ext4_durable_survives_a_power_cut_and_written_a_kernel_panic";
    let prepare = "truncate -s 300M $PLACE.image && mkfs.ext4 -q $PLACE.image && \
                   mount -o loop $PLACE.image $PLACE";
    let Some(place) = alone(name, prepare) else { return };
    for said in said_on_each_runtime(&place) {
        assert_eq!((&*said.file_system, said.medium), ("ext4", Medium::Device));
        assert_eq!(said.durable(), Survives::PowerCut);
        let written = if said.direct_io { Survives::KernelPanic } else { Survives::ProcessEnd };
        assert_eq!(said.written(), written);
    }
}

#[test]
fn on_overlay_no_more_is_promised_than_what_holds_whatever_is_below() {
    let name = "on_overlay_no_more_is_promised_than_what_holds_whatever_is_below";
    let prepare = "mount -t tmpfs -o size=256m none $PLACE && cd $PLACE && \
                   mkdir lower upper work over && mount -t overlay none \
                   -o lowerdir=lower,upperdir=upper,workdir=work over && cd /";
    let Some(place) = alone(name, prepare) else { return };
    for said in said_on_each_runtime(&place.join("over")) {
        assert_eq!((&*said.file_system, said.medium), ("overlay", Medium::Elsewhere));
        assert_eq!((said.written(), said.durable()), (Survives::ProcessEnd, Survives::ProcessEnd));
    }
}
