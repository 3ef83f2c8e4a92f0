//! The epochs of a run, as its log has them.

use std::path::Path;

use crate::train::TrainError;

/// The columns of a log of epochs ([`EpochLog`](super::EpochLog)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    columns: Vec<(String, Vec<f64>)>,
}

impl History {
    /// Reads such a file. Cells that are empty or damaged are not numbers.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let failed = |source: csv::Error| TrainError::File { path: path.into(), source: source.into() };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path).map_err(failed)?;
        let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(String::from).collect();
        let mut columns: Vec<(String, Vec<f64>)> = names.into_iter().map(|name| (name, Vec::new())).collect();
        for row in reader.records() {
            let row = row.map_err(failed)?;
            for (at, (_, values)) in columns.iter_mut().enumerate() {
                values.push(row.get(at).and_then(|cell| cell.parse().ok()).unwrap_or(f64::NAN));
            }
        }
        Ok(Self { columns })
    }

    /// The names of the columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The values of a column, epoch by epoch; empty where there is none of that name.
    pub fn column(&self, name: &str) -> &[f64] {
        self.columns.iter().find(|(known, _)| known == name).map_or(&[], |(_, values)| values)
    }

    /// The values of a column over the epochs, without those that are not numbers.
    pub fn curve(&self, name: &str) -> Vec<(f64, f64)> {
        let points = self.column("epoch").iter().copied().zip(self.column(name).iter().copied());
        points.filter(|(epoch, value)| epoch.is_finite() && value.is_finite()).collect()
    }

    /// Epochs.
    pub fn len(&self) -> usize {
        self.column("epoch").len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, "epoch,train_loss,val_loss\n1,2.0,\n2,1.0,1.5\n3,x\n").unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history.len(), 3);
        assert_eq!(history.curve("train_loss"), [(1.0, 2.0), (2.0, 1.0)]);
        assert_eq!(history.curve("val_loss"), [(2.0, 1.5)]);
        assert_eq!(history.curve("accuracy"), []);
        assert!(History::read(&folder.path().join("none.csv")).unwrap_err().to_string().contains("none.csv"));
    }
}
