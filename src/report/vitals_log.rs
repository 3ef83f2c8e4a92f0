//! What happened inside of a network as it was trained, as a file of a JSON object a line.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::train::{Control, Observer, Progress, TrainError, Vitals, write_whole};

/// Logs each [`Vitals`] as a line of a file, as soon as it is known.
pub struct VitalsLog {
    path: PathBuf,
    file: File,
}

impl VitalsLog {
    /// Begins a file in place of one that is there, or goes on with that of a run that is resumed at `progress`: without the lines
    /// of steps that will be done again, and without those that are damaged.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn open(path: &Path, resumed: Option<&Progress>) -> Result<Self, TrainError> {
        let failed = |source| TrainError::File { path: path.into(), source };
        let mut kept = String::new();
        if let Some(progress) = resumed {
            for vitals in read_vitals(path)?.iter().filter(|vitals| vitals.step <= progress.step) {
                kept += &line(vitals);
            }
        }
        write_whole(path, kept.as_bytes())?;
        let file = File::options().append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.into(), file })
    }
}

impl Observer for VitalsLog {
    fn on_vitals(&mut self, vitals: &Vitals, _: &mut Control) -> Result<(), TrainError> {
        let written = self.file.write_all(line(vitals).as_bytes());
        written.map_err(|source| TrainError::File { path: self.path.clone(), source })
    }
}

/// The lines of such a file that are whole; none where there is no file.
///
/// # Errors
/// If it cannot be read.
pub fn read_vitals(path: &Path) -> Result<Vec<Vitals>, TrainError> {
    match fs::read(path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(TrainError::File { path: path.into(), source }),
    }
}

/// Numbers that are not finite are null.
fn line(vitals: &Vitals) -> String {
    serde_json::to_string(vitals).map_or_else(|_| String::new(), |line| line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{ParameterVitals, Rectifier};

    fn vitals(step: u64) -> Vitals {
        let parameter = ParameterVitals {
            name: "conv1.weight".into(),
            shape: [3, 3, 1, 8].into(),
            gradient: 0.5,
            weight: 1.25,
            update: 1e-3,
        };
        let rectifier = Rectifier { layer: "conv1".into(), zeros: 0.5, dead: 1, channels: 8 };
        let (parameters, rectifiers) = (vec![parameter], vec![rectifier]);
        Vitals { step, learning_rate: 0.1, parameters, rectifiers, class_losses: vec![Some(0.5), None] }
    }

    #[test]
    fn a_run_goes_on_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vitals.jsonl");
        assert_eq!(read_vitals(&path).unwrap(), []);
        let write = |resumed: Option<u64>, steps: &[u64]| {
            let progress = resumed.map(|step| Progress { step, ..Progress::default() });
            let mut log = VitalsLog::open(&path, progress.as_ref()).unwrap();
            steps.iter().for_each(|step| log.on_vitals(&vitals(*step), &mut Control::default()).unwrap());
        };
        write(None, &[1, 100, 200]);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\":250,\"lear").unwrap();
        write(Some(150), &[200]);
        assert_eq!(read_vitals(&path).unwrap(), [vitals(1), vitals(100), vitals(200)]);
        write(None, &[1]);
        assert_eq!(read_vitals(&path).unwrap(), [vitals(1)]);
    }

    #[test]
    fn what_is_not_finite_is_not_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vitals.jsonl");
        let mut exploded = vitals(1);
        exploded.parameters[0].gradient = f64::INFINITY;
        VitalsLog::open(&path, None).unwrap().on_vitals(&exploded, &mut Control::default()).unwrap();
        assert!(read_vitals(&path).unwrap()[0].parameters[0].gradient.is_nan());
    }
}
