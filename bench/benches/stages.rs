//! How long each stage takes: `cargo bench -p ebbtide-bench`, `-- apply` for some of them.
//!
//! For a look at one machine. Times on a busy one vary by tens of percent; what a change costs is
//! told by `ebbtide-bench count`.

use criterion::{Criterion, Throughput};
use ebbtide_bench::stages;
use std::time::{Duration, Instant};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("stages");
    for stage in stages::all() {
        group.throughput(Throughput::Elements(stage.operations as u64));
        group.bench_function(stage.name, |bencher| {
            let mut rounds = stage.set_up();
            bencher.iter_custom(|count| {
                let mut took = Duration::ZERO;
                for _ in 0..count {
                    rounds.prepare();
                    let begun = Instant::now();
                    rounds.run();
                    took += begun.elapsed();
                }
                took
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
