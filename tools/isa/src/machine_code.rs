//! What a loop of AMD machine code is made of.

use std::{collections::BTreeMap, fmt};

/// Instructions of an innermost loop by kind.
pub struct Loop {
    counts: BTreeMap<&'static str, usize>,
}

impl Loop {
    fn of(lines: &[&str]) -> Self {
        let mut counts = BTreeMap::new();
        for kind in lines.iter().flat_map(|line| kinds(line)) {
            *counts.entry(kind).or_default() += 1;
        }
        Self { counts }
    }

    pub fn instructions(&self) -> usize {
        self.counts.values().sum()
    }

    /// Fused multiply-adds.
    pub fn fma(&self) -> usize {
        self.counts.get("fma").copied().unwrap_or(0)
    }

    /// Percentage of the instructions that are fused multiply-adds: the share of the GPU's peak that the loop can reach.
    pub fn share(&self) -> f64 {
        100.0 * self.fma() as f64 / self.instructions().max(1) as f64
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loop of {} instructions, {:.0}% fma: {:?}", self.instructions(), self.share(), self.counts)
    }
}

/// Kinds of the instructions of a line: arithmetic of the vector unit (`fma`, `valu`) and of the scalar unit (`salu`),
/// workgroup memory (`lds`), memory (`vmem`, `smem`), spilled registers (`scratch`), waits.
fn kinds(line: &str) -> Vec<&'static str> {
    let op = line.split_whitespace().next().unwrap_or("");
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| op.starts_with(prefix));
    if op.starts_with("v_dual_") {
        // Two operations in one: "v_dual_fmac_f32 v1, v2, v3 :: v_dual_mov_b32 v4, v5".
        return line.split("::").map(|half| if half.contains("_fma") { "fma" } else { "valu" }).collect();
    }
    let kind = if starts(&["v_fma", "v_pk_fma", "v_mac", "v_dot"]) {
        "fma"
    } else if starts(&["v_"]) {
        "valu"
    } else if starts(&["ds_"]) {
        "lds"
    } else if starts(&["buffer_", "global_", "flat_"]) {
        "vmem"
    } else if starts(&["scratch_"]) {
        "scratch"
    } else if starts(&["s_load", "s_buffer_load"]) {
        "smem"
    } else if starts(&["s_waitcnt"]) {
        "wait"
    } else if starts(&["s_"]) {
        "salu"
    } else {
        return Vec::new();
    };
    vec![kind]
}

/// The innermost loops: code from a label to a branch back to it that holds no other such code.
pub fn innermost_loops(machine_code: &str) -> Vec<Loop> {
    let lines: Vec<&str> = machine_code.lines().map(str::trim).collect();
    let labels: BTreeMap<&str, usize> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((line.strip_suffix(':')?, at))).collect();
    let branch_back = |(end, line): (usize, &&str)| {
        let mut words = line.split_whitespace();
        let op = words.next()?;
        let start = *labels.get(words.next()?)?;
        ((op.starts_with("s_cbranch") || op == "s_branch") && start < end).then_some((start, end))
    };
    let loops: Vec<(usize, usize)> = lines.iter().enumerate().filter_map(branch_back).collect();
    let innermost = |a: &&(usize, usize)| !loops.iter().any(|b| b != *a && a.0 <= b.0 && b.1 <= a.1);
    loops.iter().filter(innermost).map(|(start, end)| Loop::of(&lines[*start..=*end])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_loop_is_counted() {
        let code = "
            BB0:
                s_mov_b32 s0, 0
            BB1:
                s_add_u32 s0, s0, 1
            BB2:
                ds_load_b128 v[0:3], v8
                s_waitcnt lgkmcnt(0)
                v_fmac_f32_e32 v4, v0, v1
                v_dual_fmac_f32 v5, v0, v2 :: v_dual_mov_b32 v6, v7
                s_cbranch_scc1 BB2
                s_cbranch_scc0 BB1
                s_branch BB3
            BB3:
                s_endpgm";
        let loops = innermost_loops(code);
        assert_eq!(loops.len(), 1);
        assert_eq!((loops[0].fma(), loops[0].instructions()), (2, 6));
    }
}
