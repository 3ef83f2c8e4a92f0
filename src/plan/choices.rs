//! Which GPU kernels a plan takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::kernel::gpu::Candidate;

/// Which kernel each operation of a plan takes where more than one can compute it: what was found by timing them. An
/// operation that is not listed takes its first candidate, the best by an estimate of their cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Choices(BTreeMap<String, String>);

/// How much time may go into finding fast kernels before a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Tuning {
    /// An estimate of the cost chooses kernels.
    ///
    /// What the cache holds is not used.
    #[default]
    Off,
    /// About five seconds of timing the most important ones.
    Quick,
    /// Up to two minutes of timing all.
    Full,
}

/// Name of a call in [`Choices`]: the operation and a hash of all that its kernels are made of but the text of the
/// shader files. Equal calls of a plan have one name.
pub fn call(op: &str, candidates: &[Candidate]) -> String {
    let digest = Sha256::digest(format!("{candidates:?}"));
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{op} {hash}")
}

impl Choices {
    /// The kernel of a call, by name.
    pub fn get(&self, call: &str) -> Option<&str> {
        self.0.get(call).map(String::as_str)
    }

    /// Sets the kernel of a call.
    pub fn set(&mut self, call: impl Into<String>, kernel: impl Into<String>) {
        self.0.insert(call.into(), kernel.into());
    }

    /// Number of calls.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no call is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The calls and their kernels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(call, kernel)| (call.as_str(), kernel.as_str()))
    }

    /// Takes over all that `other` lists.
    pub fn extend(&mut self, other: &Choices) {
        self.0.extend(other.0.iter().map(|(call, kernel)| (call.clone(), kernel.clone())));
    }

    /// The kernel of operation `op` among its candidates; `None` where there are none.
    pub(super) fn pick(&self, op: &str, mut candidates: Vec<Candidate>) -> Option<Candidate> {
        let chosen = match candidates.len() {
            0 => return None,
            1 => 0,
            _ if self.is_empty() => 0,
            _ => self
                .get(&call(op, &candidates))
                .and_then(|name| candidates.iter().position(|candidate| candidate.name == name))
                .unwrap_or(0),
        };
        Some(candidates.swap_remove(chosen))
    }
}
