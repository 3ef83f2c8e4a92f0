//! Event files that TensorBoard reads: records of a length, its checksum, a protocol buffer and its checksum
//! (tensorflow/core/lib/io/record_writer.h), each an `Event` (tensorflow/core/util/event.proto).

mod content;
mod proto;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use proto::{
    Content, Event, HParam, HParamsPluginData, Kind, PluginData, SessionEndInfo, SessionLog, SessionStartInfo, Summary,
    SummaryMetadata, SummaryValue, What,
};

use crate::{
    models::Model,
    report::page::Judged,
    tasks::Metric,
    train::{
        Control, EpochReport, LAST, Observer, ParameterVitals, Progress, Rectifier, StepReport, TrainError, Vitals,
    },
    weights::WeightsFile,
};

/// Writes what TensorBoard shows of a run into an event file: `train/loss`, `train/learning_rate` and `train/images_per_second` of
/// each step, the figures of each epoch as `epoch/train_NAME` and `epoch/val_NAME`, norms of gradients and updates as
/// `gradient/NAME` and `update/NAME`, the loss of each class as `class_loss/NAME`, weights as histograms of each epoch whose checkpoint is in the folder, those of the test images
/// as `test/NAME` with the precision-recall curve of each class and the worst mistakes as pictures, the network's graph, and the
/// settings of the run for its table of hyperparameters.
pub struct TensorBoardLog {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    classes: Vec<String>,
}

impl TensorBoardLog {
    /// Begins a file in `folder`, of a run over these classes, with its settings by their names. A run that goes on after the step `after` begins
    /// another file, before which what earlier ones say of later steps does not count.
    ///
    /// # Errors
    /// If it cannot be written; likewise in the other methods.
    pub fn create(
        folder: &Path,
        classes: &[String],
        settings: &serde_json::Map<String, serde_json::Value>,
        after: Option<u64>,
    ) -> Result<Self, TrainError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| TrainError::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        // TensorBoard reads files in the order of their names, and knows them by `tfevents`.
        let name = |number: u64| folder.join(format!("events.out.tfevents.{:010}.{number}", now() as u64));
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let file = File::create_new(&path).map_err(failed(&path))?;
        let mut log = Self { folder: folder.into(), path, file, classes: classes.into() };
        log.write(0, What::FileVersion("brain.Event:2".into()))?;
        if let Some(step) = after {
            log.write(step + 1, What::SessionLog(SessionLog { status: 1 }))?;
        }
        let hparams = settings.iter().filter_map(|(name, value)| Some((name.clone(), hparam(value)?))).collect();
        let session_start_info = Some(SessionStartInfo { hparams, start_time_secs: now() });
        log.write_hparams(
            "_hparams_/session_start_info",
            HParamsPluginData { session_start_info, session_end_info: None },
        )?;
        Ok(log)
    }

    /// Writes the graph of the network.
    ///
    /// # Errors
    /// See above.
    pub fn graph(&mut self, model: &Model) -> Result<(), TrainError> {
        let graph = content::graph(model)?;
        self.write(0, What::GraphDef(graph.encode_to_vec()))
    }

    /// Writes how the model does, at the end of a run of so many steps, if there are images for it.
    ///
    /// # Errors
    /// See above.
    pub fn end(&mut self, step: u64, judged: Option<&Judged<'_>>) -> Result<(), TrainError> {
        if let Some(judged) = judged {
            let Judged { part, evaluation, predictions, .. } = judged;
            self.write_scalars(step, named(&format!("{part}/"), evaluation.loss, &evaluation.metrics))?;
            let curve = |class| content::precision_recall(&predictions.class(class), &predictions.ranking(class));
            let curves = (0..predictions.classes.len().min(CURVES)).map(curve);
            let value = curves.chain(content::mistakes(judged)).collect();
            self.write(step, What::Summary(Summary { value }))?;
        }
        let session_end_info = Some(SessionEndInfo { status: 1, end_time_secs: now() });
        self.write_hparams(
            "_hparams_/session_end_info",
            HParamsPluginData { session_start_info: None, session_end_info },
        )
    }

    fn write_hparams(&mut self, tag: &str, data: HParamsPluginData) -> Result<(), TrainError> {
        let plugin_data = Some(PluginData { plugin_name: "hparams".into(), content: data.encode_to_vec() });
        let metadata = Some(SummaryMetadata { plugin_data });
        let value = vec![SummaryValue { tag: tag.into(), metadata, content: None }];
        self.write(0, What::Summary(Summary { value }))
    }

    fn write_scalars(&mut self, step: u64, scalars: Vec<(String, f64)>) -> Result<(), TrainError> {
        let value = |(tag, value): (String, f64)| SummaryValue {
            tag,
            metadata: None,
            content: Some(Content::Scalar(value as f32)),
        };
        self.write(step, What::Summary(Summary { value: scalars.into_iter().map(value).collect() }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), TrainError> {
        let event = Event { wall_time: now(), step: step as i64, what: Some(what) }.encode_to_vec();
        let length = (event.len() as u64).to_le_bytes();
        let record = [&length[..], &masked_crc(&length), &event, &masked_crc(&event)].concat();
        self.file.write_all(&record).map_err(|source| TrainError::File { path: self.path.clone(), source })
    }
}

/// The figures of an epoch under their names.
fn named(prefix: &str, loss: f64, metrics: &[Metric]) -> Vec<(String, f64)> {
    let metrics = metrics.iter().map(|metric| (format!("{prefix}{}", metric.key()), metric.value));
    std::iter::once((format!("{prefix}loss"), loss)).chain(metrics).collect()
}

impl Observer for TensorBoardLog {
    fn on_step(&mut self, report: &StepReport, _: &mut Control) -> Result<(), TrainError> {
        let scalars = [
            ("train/loss", report.loss.into()),
            ("train/learning_rate", report.learning_rate),
            ("train/images_per_second", report.images_per_second),
        ];
        self.write_scalars(report.step, scalars.map(|(tag, value)| (tag.into(), value)).into())
    }

    fn on_epoch(&mut self, report: &EpochReport, _: &mut Control) -> Result<(), TrainError> {
        let mut scalars = named("epoch/train_", report.train_loss, &report.train_metrics);
        if let Some(validation) = &report.validation {
            scalars.extend(named("epoch/val_", validation.loss, &validation.metrics));
        }
        scalars.extend(report.logged.iter().map(|metric| (format!("epoch/{}", metric.key()), metric.value)));
        self.write_scalars(report.step, scalars)
    }

    fn on_vitals(&mut self, vitals: &Vitals, _: &mut Control) -> Result<(), TrainError> {
        let of = |parameter: &ParameterVitals| {
            // Of weights that are 0, as biases are at first, no change is a part.
            let update = (parameter.weight > 0.0).then(|| parameter.update / parameter.weight);
            [("gradient/", Some(parameter.gradient)), ("update/", update)]
                .into_iter()
                .filter_map(|(figure, value)| Some((format!("{figure}{}", parameter.name), value?)))
                .collect::<Vec<_>>()
        };
        let zeros = |at: &Rectifier| (format!("zeros/{}", at.layer), at.zeros);
        let losses = self.classes.iter().zip(&vitals.class_losses).take(CURVES);
        let class_loss = |(class, loss): (&String, &Option<f64>)| Some((format!("class_loss/{class}"), (*loss)?));
        let inside = vitals.parameters.iter().flat_map(of).chain(vitals.rectifiers.iter().map(zeros));
        let scalars = inside.chain(losses.filter_map(class_loss)).collect();
        self.write_scalars(vitals.step, scalars)
    }

    fn on_checkpoint(&mut self, progress: &Progress) -> Result<(), TrainError> {
        let path = self.folder.join(LAST);
        if !progress.step.is_multiple_of(progress.batches.max(1) as u64) || !path.is_file() {
            return Ok(());
        }
        let weights = WeightsFile::open(&path)?;
        let names: Vec<String> = weights.tensors().map(|(name, _)| name.to_string()).collect();
        let mut value = Vec::with_capacity(names.len());
        for name in names {
            let content = Some(Content::Histogram(content::histogram(&weights.read(&name)?)));
            value.push(SummaryValue { tag: format!("weights/{name}"), metadata: None, content });
        }
        self.write(progress.step, What::Summary(Summary { value }))
    }
}

/// Classes of which curves and losses are written.
const CURVES: usize = 100;

fn hparam(value: &serde_json::Value) -> Option<HParam> {
    let kind = match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(value) => Kind::Bool(*value),
        serde_json::Value::Number(number) => Kind::Number(number.as_f64()?),
        serde_json::Value::String(text) => Kind::Text(text.clone()),
        other => Kind::Text(other.to_string()),
    };
    Some(HParam { kind: Some(kind) })
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The CRC-32C of bytes, rotated and shifted so that checksums of checksums are not too alike.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        data::{Dataset, ImageSize},
        tasks::{Evaluation, Metric, Predictions},
    };

    /// The events of the file in a folder that was written last.
    fn events(folder: &Path) -> Vec<Event> {
        let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let bytes = fs::read(files.pop().unwrap()).unwrap();
        let (mut events, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]));
            let event = &rest[12..12 + length];
            assert_eq!(rest[12 + length..][..4], masked_crc(event));
            events.push(Event::decode(event).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    fn scalars(event: &Event) -> Vec<(&str, f32)> {
        let Some(What::Summary(summary)) = &event.what else { return Vec::new() };
        let scalar = |value: &SummaryValue| match value.content {
            Some(Content::Scalar(scalar)) => Some(scalar),
            _ => None,
        };
        summary.value.iter().filter_map(|value| Some((value.tag.as_str(), scalar(value)?))).collect()
    }

    /// That of "123456789" is 0xe3069283 (RFC 3720, appendix B.4 has others).
    #[test]
    fn checksums_are_those_of_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let masked = 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), masked.to_le_bytes());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let failed = TensorBoardLog::create(&file.join("run"), &[], &serde_json::Map::new(), None);
        assert!(failed.err().unwrap().to_string().contains("file/run"));
    }

    #[test]
    fn the_change_of_weights_that_are_0_is_no_part_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = TensorBoardLog::create(folder.path(), &["cat".into()], &serde_json::Map::new(), None).unwrap();
        let parameter = |name: &str, weight| ParameterVitals {
            name: name.into(),
            shape: [2].into(),
            gradient: 0.5,
            weight,
            update: 0.25,
        };
        let vitals = Vitals {
            step: 3,
            parameters: vec![parameter("bias", 0.0), parameter("weight", 0.5)],
            class_losses: vec![Some(2.0)],
            ..Vitals::default()
        };
        log.on_vitals(&vitals, &mut Control::default()).unwrap();
        let expected =
            [("gradient/bias", 0.5), ("gradient/weight", 0.5), ("update/weight", 0.5), ("class_loss/cat", 2.0)];
        assert_eq!(scalars(events(folder.path()).last().unwrap()), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let settings = json!({"model": "lenet5", "recipe.epochs": 3, "nothing": null});
        let mut log = TensorBoardLog::create(folder.path(), &[], settings.as_object().unwrap(), None).unwrap();
        let step = StepReport {
            step: 7,
            epoch: 1,
            total_steps: 9,
            loss: 0.5,
            losses: Vec::new(),
            metrics: Vec::new(),
            learning_rate: 0.25,
            images_per_second: 8.0,
        };
        log.on_step(&step, &mut Control::default()).unwrap();
        let metrics = vec![Metric::share("top-5 accuracy", 0.75)];
        let evaluation = Evaluation { images: 4, loss: 1.5, metrics, ..Evaluation::default() };
        let images =
            Dataset::from_pixels("one", vec![7], ImageSize::new(1, 1, 1), vec![0], vec!["a".to_string()]).unwrap();
        let predictions = Predictions {
            classes: vec!["a".into()],
            images: vec!["one".into()],
            answers: vec![1.0],
            labels: vec![0].into(),
            losses: vec![0.0],
            ..Predictions::default()
        };
        let (evaluation, predictions, images) = (&evaluation, &predictions, &images);
        log.end(9, Some(&Judged { part: "test", evaluation, predictions, images })).unwrap();
        let found = events(folder.path());
        assert_eq!(found[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!(
            (found[2].step, scalars(&found[2])[..2].to_vec()),
            (7, vec![("train/loss", 0.5), ("train/learning_rate", 0.25)])
        );
        assert_eq!((found[3].step, scalars(&found[3])), (9, vec![("test/loss", 1.5), ("test/top5_accuracy", 0.75)]));
        let Some(What::Summary(begun)) = &found[1].what else { panic!("{:?}", found[1]) };
        let plugin = begun.value[0].metadata.as_ref().unwrap().plugin_data.as_ref().unwrap();
        let begun = HParamsPluginData::decode(&plugin.content[..]).unwrap().session_start_info.unwrap();
        let kinds: Vec<Kind> = begun.hparams.into_values().filter_map(|value| value.kind).collect();
        assert_eq!(kinds, [Kind::Text("lenet5".into()), Kind::Number(3.0)]);

        // One that goes on has a file of its own, which says from where on.
        TensorBoardLog::create(folder.path(), &[], settings.as_object().unwrap(), Some(5)).unwrap();
        let begun = events(folder.path());
        assert_eq!((begun[1].step, &begun[1].what), (6, &Some(What::SessionLog(SessionLog { status: 1 }))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
