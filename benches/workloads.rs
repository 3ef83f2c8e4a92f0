//! The speed workloads by name, on the CPU and on a GPU: training steps and inference of models, the matrix product and
//! the convolution. `gabor bench` measures the same programs, with their share of what the device could do.
//!
//!     cargo bench --bench workloads                       # on the CPU, and on the best GPU where there is one
//!     GABOR_BENCH_DEVICE=llvmpipe cargo bench --bench workloads -- W6
//!
//! Throughput is images a second.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gabor::{
    bench::{self, Case, Scale},
    device,
};

/// The devices to measure: the CPU, and the one that `GABOR_BENCH_DEVICE` names or the best GPU.
fn devices() -> Vec<String> {
    let other = std::env::var("GABOR_BENCH_DEVICE").unwrap_or("gpu".into());
    let usable = |name: &String| name == "cpu" || device::open(name).is_ok();
    ["cpu".to_string(), other].into_iter().filter(usable).collect()
}

fn workload(criterion: &mut Criterion, name: &str) {
    for device in devices() {
        let open = || device::open(&device).unwrap_or_else(|error| panic!("{error}"));
        let target = open().target();
        for case in bench::workload(name, &target, &Scale::default()) {
            let Case { workload, what, size, batch, .. } = &case;
            let of = batch.map_or(String::new(), |batch| format!(" batch {batch}"));
            let mut group = criterion.benchmark_group(format!("{workload} {what} {size}{of}"));
            group.sample_size(10).measurement_time(Duration::from_secs(4));
            if let Some(batch) = batch.filter(|_| case.is_step()) {
                group.throughput(Throughput::Elements(batch as u64));
            }
            // Loaded only where the filter of the command line lets it run.
            let mut program = None;
            group.bench_function(&device, |bencher| {
                let program =
                    program.get_or_insert_with(|| case.load(open()).unwrap_or_else(|error| panic!("{error}")));
                bencher.iter(|| program.run(1).expect("a run"));
            });
        }
    }
}

fn workloads(criterion: &mut Criterion) {
    for (name, _) in bench::WORKLOADS {
        workload(criterion, name);
    }
}

criterion_group!(benches, workloads);
criterion_main!(benches);
