//! What is shown of one image.

use std::path::Path;

use anyhow::{Result, bail};
use gabor::{
    data::ImageSize,
    explain::{Explainer, Map, Occlusion},
    train::{Classifier, Prediction},
};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::{
    ExplainArgs, LeftOut, Method,
    images::Image,
    nearest::Near,
    place::{Drawn, Place},
};

/// Classes that are told of an image.
const TOP: usize = 5;

/// Channels that are shown of a layer.
const CHANNELS: usize = 16;

/// What is asked for, and the network that is asked.
pub struct Look {
    explainer: Explainer,
    /// The class that all images are asked for.
    class: Option<usize>,
    /// The layer that Grad-CAM is taken of.
    layer: Option<String>,
    occlusion: Option<Occlusion>,
    /// The layers whose feature maps are shown.
    layers: Vec<String>,
    filters: bool,
    /// What cannot be shown.
    pub left_out: Vec<LeftOut>,
}

/// A map over an image.
pub struct Overlay {
    pub drawn: Drawn,
    /// The largest number.
    pub most: f32,
    /// Row and column of its place in the image.
    pub peak: (usize, usize),
}

/// The feature maps of a layer.
pub struct Features {
    pub layer: String,
    /// How many channels there are.
    pub of: usize,
    /// Which are shown.
    pub channels: Vec<usize>,
    pub drawn: Drawn,
}

/// What is shown of an image.
pub struct Explained<'a> {
    pub image: &'a Image,
    pub predictions: Vec<Prediction>,
    /// The class that it is about.
    pub class: Prediction,
    /// With the layer that it is of.
    pub grad_cam: Option<(String, Overlay)>,
    pub occlusion: Option<(Occlusion, Overlay)>,
    pub features: Vec<Features>,
    pub nearest: Vec<Near>,
}

impl Look {
    pub fn new(args: &ExplainArgs, explainer: Explainer, class: Option<usize>) -> Result<Self> {
        let mut left_out = Vec::new();
        let (mut layer, mut layers) = (None, Vec::new());
        for method in [Method::Gradcam, Method::Features].into_iter().filter(|method| args.shows(*method)) {
            match (explainer.default_layer(), method) {
                (Err(error), _) => left_out.push(LeftOut { method, reason: error.to_string() }),
                (Ok(last), Method::Gradcam) => {
                    let named = args.layer.as_deref().unwrap_or(&last.path);
                    layer = Some(explainer.layer(named)?.path.clone());
                }
                (Ok(_), _) => layers = chosen(&explainer, &args.layers)?,
            }
        }
        let input = explainer.model().input;
        let mut occlusion = args.shows(Method::Occlusion).then(|| args.occlusion(input)).transpose()?;
        if let Some(Err(error)) = occlusion.map(|occlusion| occlusion.check(input)) {
            occlusion = None;
            left_out.push(LeftOut { method: Method::Occlusion, reason: error.to_string() });
        }
        let filters = args.shows(Method::Filters);
        Ok(Self { explainer, class, layer, occlusion, layers, filters, left_out })
    }

    /// Places of patches in an image.
    pub fn places(&self) -> usize {
        self.occlusion.map_or(0, |occlusion| occlusion.places(self.explainer.model().input))
    }

    /// Looks at an image. `bar` counts places of patches.
    pub fn at<'a>(
        &mut self,
        image: &'a Image,
        classifier: &mut Classifier,
        place: &Place,
        bar: &ProgressBar,
    ) -> Result<Explained<'a>> {
        let classes = classifier.card().classes.len();
        let all = classifier.predict(&image.pixels, classes)?.into_iter().next().unwrap_or_default();
        let about = all.iter().position(|one| self.class.is_none_or(|class| one.index == class)).unwrap_or_default();
        let Some(class) = all.get(about).cloned() else {
            bail!("the network tells no class of {}", image.path.display())
        };
        let stem = &image.stem;
        let overlay = |map: &Map, method: &str| -> Result<Overlay> {
            let drawn = place.draw(&format!("{stem}-{method}.png"), image.picture.under(map, &image.view))?;
            Ok(Overlay { drawn, most: map.peak().2, peak: peak(map, image) })
        };
        let mut grad_cam = None;
        if let Some(layer) = &self.layer {
            let map = self.explainer.grad_cam(&image.pixels, class.index, layer)?;
            grad_cam = Some((layer.clone(), overlay(&map, "gradcam")?));
        }
        let mut occluded = None;
        if let Some(occlusion) = self.occlusion {
            let begun = bar.position();
            let map = occlusion.map(classifier, &image.pixels, class.index, &mut |done| {
                bar.set_position(begun + done as u64);
            })?;
            occluded = Some((occlusion, overlay(&map, "occlusion")?));
        }
        let mut features = Vec::new();
        for maps in self.explainer.feature_maps(&image.pixels, &self.layers, CHANNELS)? {
            let drawn = place.draw(&format!("{stem}-features/{}.png", file_name(&maps.layer)), maps.picture())?;
            let channels = maps.maps.iter().map(|(channel, _)| *channel).collect();
            features.push(Features { layer: maps.layer, of: maps.channels, channels, drawn });
        }
        let predictions = all.into_iter().take(TOP).collect();
        Ok(Explained { image, predictions, class, grad_cam, occlusion: occluded, features, nearest: Vec::new() })
    }

    /// Draws the filters, where they are asked for and there are any.
    pub fn filters(&mut self, place: &Place) -> Result<Option<Drawn>> {
        if !self.filters {
            return Ok(None);
        }
        match self.explainer.filters() {
            Ok(filters) => place.draw("filters.png", filters.picture()).map(Some),
            Err(error) => {
                self.left_out.push(LeftOut { method: Method::Filters, reason: error.to_string() });
                Ok(None)
            }
        }
    }
}

/// The layers that are named, by their names or by patterns; where none are, the last one of each size.
fn chosen(explainer: &Explainer, named: &[String]) -> Result<Vec<String>> {
    let layers = explainer.layers();
    if named.is_empty() {
        let is_last = |at: &usize| {
            let size = |at: usize| (layers[at].height, layers[at].width);
            (at + 1..layers.len()).all(|later| size(later) != size(*at))
        };
        return Ok((0..layers.len()).filter(is_last).map(|at| layers[at].path.clone()).collect());
    }
    let mut paths: Vec<&str> = Vec::new();
    layers.iter().for_each(|layer| {
        if !paths.contains(&layer.path.as_str()) {
            paths.push(&layer.path);
        }
    });
    let matches = |name: &String, path: &str| name == "all" || WildMatch::new(name).matches(path);
    if let Some(name) = named.iter().find(|name| !paths.iter().any(|path| matches(name, path))) {
        explainer.layer(name)?;
    }
    paths.retain(|path| named.iter().any(|name| matches(name, path)));
    Ok(paths.into_iter().map(String::from).collect())
}

/// Row and column, in the image, of the largest number of a map.
fn peak(map: &Map, image: &Image) -> (usize, usize) {
    let (down, across) = map.peak_share();
    let (down, across) = image.view.in_image(down, across);
    let ImageSize { height, width, .. } = image.size;
    let pixel = |share: f64, side: usize| ((share * side as f64) as usize).min(side.saturating_sub(1));
    (pixel(down, height), pixel(across, width))
}

/// The name of a layer as that of a file.
fn file_name(layer: &str) -> String {
    layer.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

impl Explained<'_> {
    /// All pictures that were written of it.
    pub fn pictures(&self) -> Vec<&Path> {
        let overlays = [self.grad_cam.as_ref().map(|(_, one)| one), self.occlusion.as_ref().map(|(_, one)| one)];
        let overlays = overlays.into_iter().flatten().map(|overlay| &overlay.drawn);
        overlays.chain(self.features.iter().map(|features| &features.drawn)).map(|drawn| drawn.path.as_path()).collect()
    }

    /// Its figures, and the paths of its pictures.
    pub fn figures(&self) -> Value {
        let overlay = |overlay: &Overlay, most: &str| {
            let (row, column) = overlay.peak;
            json!({"picture": overlay.drawn.path, "peak": {"row": row, "column": column}, most: overlay.most})
        };
        let with = |mut figures: Value, more: Value| {
            if let (Some(figures), Value::Object(more)) = (figures.as_object_mut(), more) {
                figures.extend(more);
            }
            figures
        };
        let grad_cam =
            self.grad_cam.as_ref().map(|(layer, one)| with(overlay(one, "largest"), json!({"layer": layer})));
        let occlusion = self.occlusion.as_ref().map(|(occlusion, one)| {
            with(overlay(one, "largest_drop"), json!({"patch": occlusion.patch, "stride": occlusion.stride}))
        });
        let features = |features: &Features| {
            json!({
                "layer": features.layer, "picture": features.drawn.path, "channels": features.of, "shown": features.channels,
            })
        };
        json!({
            "image": self.image.path,
            "predictions": self.predictions,
            "class": self.class.class,
            "probability": self.class.probability,
            "gradcam": grad_cam,
            "occlusion": occlusion,
            "features": self.features.iter().map(features).collect::<Vec<Value>>(),
            "nearest": self.nearest.iter().map(Near::figures).collect::<Vec<Value>>(),
        })
    }
}
