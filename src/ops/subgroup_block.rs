//! Blocks of sums of products that a subgroup owns together (`shaders/lib/broadcast.wgsl`), for processors that run
//! shaders. Costs are in loads of a subgroup for each four terms of the sums.

use crate::kernel::gpu::{Candidate, Limits, Shader};

/// Invocations of the subgroup.
pub(super) const SUBGROUP: usize = 8;

/// Multiplications of vec4s that take a processor as long as the load of one.
pub(super) const MULTIPLICATIONS: f64 = 45.0;

/// Each invocation loads `loads` rows, four terms at a time, and the sums of all rows for `columns` vec4s of columns are
/// its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubgroupBlock {
    pub loads: usize,
    pub columns: usize,
}

impl SubgroupBlock {
    /// From the largest down, which is as large as compilers unroll.
    const ALL: [Self; 4] = [
        Self { loads: 4, columns: 2 },
        Self { loads: 4, columns: 1 },
        Self { loads: 2, columns: 1 },
        Self { loads: 1, columns: 1 },
    ];

    /// The blocks for sums of `terms` products and `n` columns: none where either is no multiple of 4, or where subgroups
    /// are not of eight.
    pub fn choices(terms: usize, n: usize, limits: &Limits) -> impl Iterator<Item = Self> {
        let size = SUBGROUP as u32;
        let suits = limits.subgroup == Some((size, size)) && terms.is_multiple_of(4) && n.is_multiple_of(4);
        Self::ALL.into_iter().filter(move |_| suits)
    }

    pub fn rows(self) -> usize {
        SUBGROUP * self.loads
    }

    pub fn width(self) -> usize {
        4 * SUBGROUP * self.columns
    }

    /// Subgroups for `m` rows and `n` columns.
    pub fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows()) * n.div_ceil(self.width())
    }

    /// The cost of a block, where four terms of a row and of a column take `loads` each.
    pub fn cost(self, loads: [usize; 2]) -> f64 {
        let multiplications = (4 * self.rows() * self.columns) as f64;
        (self.loads * loads[0] + 4 * self.columns * loads[1]) as f64 + multiplications / MULTIPLICATIONS
    }

    /// What specialises the module.
    pub fn specialise(self, shader: Shader) -> Shader {
        shader.constant("LOADS", self.loads).constant("COLUMNS", self.columns).feature("SUBGROUPS", true)
    }

    /// `kernel` with the block's extents.
    pub fn name(self, kernel: &str) -> String {
        format!("{kernel} broadcast {}x{}", self.rows(), self.width())
    }
}

/// The `most` kernels of least cost, the cheapest first.
pub(super) fn by_cost(kernels: impl Iterator<Item = (f64, Candidate)>, most: usize) -> Vec<Candidate> {
    let mut kernels: Vec<(f64, Candidate)> = kernels.collect();
    kernels.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    kernels.truncate(most);
    kernels.into_iter().map(|(_, candidate)| candidate).collect()
}
