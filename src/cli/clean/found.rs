//! What was found, as a list, as JSON and as text.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use gabor::{
    audit::{Copy, Flaw, FlawKind, Outlier, Pool, WrongLabel},
    data::{Label, Skipped},
    report::{Table, grouped},
};
use serde::Serialize;

use super::kind::Kind;

/// How many of each kind are printed.
const PRINTED: usize = 5;
/// What stands between the classes of an image that is of several.
const SEPARATOR: &str = "|";

/// Something that is wrong with an image.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub kind: Kind,
    /// Its name.
    pub image: String,
    /// The part of the data that it is in.
    pub part: String,
    /// Its class, or its classes.
    pub class: String,
    /// The image that it is a copy of, the class that it probably is of, or why it cannot be read.
    pub other: String,
    pub score: Option<f64>,
    /// By which findings of a kind are sorted, the worst being the lowest.
    #[serde(skip)]
    rank: f64,
    /// Its index, where it can be read.
    #[serde(skip)]
    pub index: Option<usize>,
    /// The index of the image that it is a copy of.
    #[serde(skip)]
    pub copy_of: Option<usize>,
}

/// Makes findings of what the library says, and keeps those of the kinds that were asked for.
pub struct Findings<'a> {
    pool: &'a Pool,
    kinds: &'a [Kind],
    all: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub fn new(pool: &'a Pool, kinds: &'a [Kind]) -> Self {
        Self { pool, kinds, all: Vec::new() }
    }

    /// A finding of an image.
    fn of(&self, kind: Kind, image: usize, score: f64, rank: f64) -> Finding {
        let images = &self.pool.images;
        let class = match images.labels().get(image) {
            Label::Class(class) => images.classes()[class as usize].clone(),
            Label::Row(row) => {
                let own = images.classes().iter().zip(row).filter(|(_, is)| **is > 0.5);
                own.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(SEPARATOR)
            }
        };
        Finding {
            kind,
            image: images.image_name(image),
            part: self.pool.part(image).into(),
            class,
            other: String::new(),
            score: Some(score),
            rank,
            index: Some(image),
            copy_of: None,
        }
    }

    fn add(&mut self, finding: Finding) {
        if self.kinds.contains(&finding.kind) {
            self.all.push(finding);
        }
    }

    pub fn unreadable(&mut self, skipped: &[Skipped]) {
        for Skipped { path, reason } in skipped {
            self.add(Finding {
                kind: Kind::Unreadable,
                image: path.display().to_string(),
                part: String::new(),
                class: String::new(),
                other: reason.clone(),
                score: None,
                rank: 0.0,
                index: None,
                copy_of: None,
            });
        }
    }

    /// A copy in another part is a leak, and where these were not asked for, a copy like others.
    pub fn copies(&mut self, copies: &[Copy]) {
        for copy in copies {
            let across = self.pool.part(copy.image) != self.pool.part(copy.of);
            let kind = match copy.exact {
                _ if across && self.kinds.contains(&Kind::Leaks) => Kind::Leaks,
                true => Kind::Duplicates,
                false => Kind::NearDuplicates,
            };
            let similarity = f64::from(copy.similarity);
            let other = self.pool.images.image_name(copy.of);
            self.add(Finding { other, copy_of: Some(copy.of), ..self.of(kind, copy.image, similarity, -similarity) });
        }
    }

    pub fn flaws(&mut self, flaws: &[Flaw]) {
        for flaw in flaws {
            let rank = match flaw.kind {
                FlawKind::Overexposed => -flaw.value,
                FlawKind::OddProportions => -flaw.value.ln().abs(),
                _ => flaw.value,
            };
            self.add(self.of(flaw.kind.into(), flaw.image, flaw.value, rank));
        }
    }

    /// `places` are the indices of the images that were judged.
    pub fn labels(&mut self, wrong: &[WrongLabel], places: &[usize]) {
        for label in wrong {
            let other = self.pool.images.classes()[label.suggested].clone();
            let (confidence, margin) = (label.confidence.into(), label.margin.into());
            self.add(Finding { other, ..self.of(Kind::Labels, places[label.image], confidence, margin) });
        }
    }

    /// `places` likewise.
    pub fn outliers(&mut self, outliers: &[Outlier], places: &[usize]) {
        for outlier in outliers {
            let rank = -outlier.deviations;
            self.add(self.of(Kind::Outliers, places[outlier.image], outlier.distance, rank));
        }
    }

    /// All of them, by kind, the worst first.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.all.sort_by(|a, b| a.kind.cmp(&b.kind).then(a.rank.total_cmp(&b.rank)));
        self.all
    }
}

/// Findings as CSV.
pub fn csv(findings: &[Finding]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["kind", "image", "part", "class", "other", "score"])?;
    for Finding { kind, image, part, class, other, score, .. } in findings {
        let score = score.map(|score| score.to_string()).unwrap_or_default();
        writer.write_record([kind.name(), image, part, class, other, &score])?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// How many there are of each kind.
pub fn counts(kinds: &[Kind], findings: &[Finding]) -> BTreeMap<&'static str, usize> {
    let count = |kind: Kind| findings.iter().filter(|finding| finding.kind == kind).count();
    kinds.iter().map(|&kind| (kind.name(), count(kind))).collect()
}

/// The number of each kind, and the first few of those that there are.
pub fn text(kinds: &[Kind], findings: &[Finding]) -> String {
    let mut table = Table::new(["<", "images", "<the first of them", "<", "<", "score"]);
    for &kind in kinds {
        let mut of_kind = findings.iter().filter(|finding| finding.kind == kind);
        let count = grouped(of_kind.clone().count());
        let row = |name: &str, count: String, finding: Option<&Finding>| {
            let cell = |text: fn(&Finding) -> String| finding.map_or_else(String::new, text);
            [
                name.into(),
                count,
                cell(|finding| finding.image.clone()),
                cell(|finding| [&finding.part[..], &finding.class].join(" ")),
                cell(|finding| match finding.other.is_empty() {
                    true => String::new(),
                    false => format!("{} {}", told(finding.kind), finding.other),
                }),
                cell(|finding| finding.score.map_or(String::new(), |score| format!("{score:.4}"))),
            ]
        };
        table.row(row(kind.name(), count, of_kind.next()));
        of_kind.take(PRINTED - 1).for_each(|finding| table.row(row("", String::new(), Some(finding))));
    }
    let mut text = table.to_string();
    if findings.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "nothing was found");
    }
    text
}

/// What the other thing of a finding is to its image.
pub fn told(kind: Kind) -> &'static str {
    match kind {
        Kind::Labels => "rather",
        Kind::Unreadable => "",
        _ => "copy of",
    }
}
