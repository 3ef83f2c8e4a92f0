//! What is drawn for the images of a batch.

use std::f64::consts::PI;

use super::{Augmentation, LOOKS, MAPS, MIXES, Policy, SEEDS, SHARES, numbers::Numbers};
use crate::{
    ops::{LOOK, MIX, SAME_LOOK},
    tensor::Tensor,
};

/// An affine map of places, row and column, as two rows of three numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Map([[f64; 3]; 2]);

impl Map {
    const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    fn scale([rows, columns]: [f64; 2]) -> Self {
        Self([[rows, 0.0, 0.0], [0.0, columns, 0.0]])
    }

    fn shift([rows, columns]: [f64; 2]) -> Self {
        Self([[1.0, 0.0, rows], [0.0, 1.0, columns]])
    }

    /// The map that applies `inner` and then this one.
    fn after(self, inner: Self) -> Self {
        let ([a, b], [c, d]) = (self.0, inner.0);
        let row = |outer: [f64; 3]| {
            let of = |column: usize| outer[0] * c[column] + outer[1] * d[column];
            [of(0), of(1), of(2) + outer[2]]
        };
        Self([row(a), row(b)])
    }
}

/// What is drawn for one image: where each pixel of the result comes from, and how it looks.
pub(super) struct Draw {
    height_width: [f64; 2],
    /// From the place in the result to that in the image, both from the centre.
    map: Map,
    look: [f32; LOOK],
}

impl Draw {
    pub fn rotate(&mut self, degrees: f64) {
        let (sin, cos) = (degrees * PI / 180.0).sin_cos();
        self.map = self.map.after(Map([[cos, -sin, 0.0], [sin, cos, 0.0]]));
    }

    /// By shares of height and width.
    pub fn shift(&mut self, [down, right]: [f64; 2]) {
        let [height, width] = self.height_width;
        self.map = self.map.after(Map::shift([down * height, right * width]));
    }

    /// Moves columns by so many rows a column.
    pub fn shear_columns(&mut self, by: f64) {
        self.map = self.map.after(Map([[1.0, by, 0.0], [0.0, 1.0, 0.0]]));
    }

    /// Moves rows by so many columns a row.
    pub fn shear_rows(&mut self, by: f64) {
        self.map = self.map.after(Map([[1.0, 0.0, 0.0], [by, 1.0, 0.0]]));
    }

    pub fn brightness(&mut self, factor: f64) {
        self.look[0] *= factor as f32;
    }

    pub fn contrast(&mut self, factor: f64) {
        self.look[1] *= factor as f32;
    }

    pub fn saturation(&mut self, factor: f64) {
        self.look[2] *= factor as f32;
    }
}

/// The images of a batch that something is drawn for.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// Seed and step, as dropout has them: [`clock`](crate::kernel::random::clock).
    pub clock: [u32; 2],
    /// Rounds through the data before this one.
    pub epoch: u64,
    /// Which image of the data each is.
    pub indices: &'a [u32],
    /// How many of them count: the first ones. Only these are mixed with each other.
    pub real: usize,
    /// Height, width and channels.
    pub size: [usize; 3],
}

/// What was drawn for the images of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// Name and content of each feed that [`Augmentation::apply`] and [`Augmentation::shares`] append.
    pub feeds: Vec<(&'static str, Tensor)>,
    /// For each image, the one of the batch that it is mixed with; where they are mixed.
    pub partners: Option<Vec<usize>>,
}

impl Augmentation {
    /// Draws for the images of a batch. The same arguments give the same numbers.
    pub fn draw(&self, drawn: &Drawn<'_>) -> Draws {
        let mut draws = Draws { feeds: Vec::new(), partners: None };
        if self.is_identity() {
            return draws;
        }
        let batch = drawn.indices.len();
        let mut numbers: Vec<Numbers> = (0..batch).map(|at| Numbers::new(drawn.clock, Some(at as u32))).collect();
        let (mut maps, mut looks, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        for (numbers, index) in numbers.iter_mut().zip(drawn.indices) {
            let (map, look) = self.view(numbers, drawn, *index);
            maps.extend(map.0.as_flattened().iter().map(|number| *number as f32));
            looks.extend(look);
            seeds.push((numbers.uniform() * 2f64.powi(32)) as u32);
        }
        draws.feeds.push((MAPS, Tensor::f32([batch, 6], maps)));
        if self.has_colours() {
            draws.feeds.push((LOOKS, Tensor::f32([batch, LOOK], looks)));
            draws.feeds.push((SEEDS, Tensor::u32([batch], seeds)));
        }
        if self.has_boxes() || self.mixes_labels() {
            self.mix(drawn, &mut numbers, &mut draws);
        }
        draws
    }

    /// Where the pixels of an image come from, and how it looks.
    fn view(&self, numbers: &mut Numbers, drawn: &Drawn<'_>, index: u32) -> (Map, [f32; LOOK]) {
        let height_width = [drawn.size[0] as f64, drawn.size[1] as f64];
        let mut draw = Draw { height_width, map: Map::IDENTITY, look: SAME_LOOK };
        self.turn(&mut draw, numbers);
        self.recolour(&mut draw, numbers);
        let (operations, magnitude) = (self.policy_operations.unwrap_or(2), self.policy_magnitude.unwrap_or(9.0));
        let policy = self.policy.unwrap_or_default();
        if policy != Policy::None {
            policy.transform(&mut draw, numbers, operations, magnitude);
        }
        let centre = height_width.map(|extent| 0.5 * extent - 0.5);
        let about_centre = Map::shift(centre).after(draw.map).after(Map::shift(centre.map(|place| -place)));
        let cropped = self.crop(numbers, height_width);
        let flipped = self.flip(numbers, drawn, index);
        (about_centre.after(cropped).after(flipped), draw.look)
    }

    /// Rotation, shift, shear and zoom, in Keras's order.
    fn turn(&self, draw: &mut Draw, numbers: &mut Numbers) {
        let mut up_to = |range: Option<f64>| range.map_or(0.0, |range| numbers.between(-range, range));
        let [height, width] = draw.height_width;
        // A range from 1 on is of pixels.
        let share = |range: Option<f64>, extent: f64| range.map(|x| if x < 1.0 { x } else { x / extent });
        let rotation = up_to(self.rotation_range);
        let rows = up_to(share(self.height_shift_range, height));
        let columns = up_to(share(self.width_shift_range, width));
        let shear = up_to(self.shear_range);
        let zoom = [self.zoom_range; 2].map(|range| 1.0 + up_to(range));
        draw.rotate(rotation);
        draw.shift([rows, columns]);
        let (sin, cos) = (shear * PI / 180.0).sin_cos();
        draw.map = draw.map.after(Map([[1.0, -sin, 0.0], [0.0, cos, 0.0]])).after(Map::scale(zoom));
    }

    fn recolour(&self, draw: &mut Draw, numbers: &mut Numbers) {
        let mut about_one = |range: Option<f64>| range.map_or(1.0, |range| numbers.between(1.0 - range, 1.0 + range));
        draw.brightness(about_one(self.brightness));
        draw.contrast(about_one(self.contrast));
        draw.saturation(about_one(self.saturation));
        let look = &mut draw.look;
        look[3] = self.hue.map_or(0.0, |range| numbers.between(-range, range)) as f32;
        look[4] = self.grayscale.map_or(0.0, |share| f32::from(u8::from(numbers.chance(share))));
        let shift = self.channel_shift_range.map_or(0.0, |range| numbers.between(-range, range));
        look[5..8].fill(shift as f32);
        look[8] = self.noise.map_or(0.0, |most| numbers.between(0.0, most)) as f32;
        let deviation = self.blur.map_or(0.0, |most| numbers.between(0.0, most));
        if deviation > 0.0 {
            let weights = [0.0, 1.0, 2.0].map(|away: f64| (-0.5 * (away / deviation).powi(2)).exp());
            let sum = weights[0] + 2.0 * (weights[1] + weights[2]);
            look[9..].iter_mut().zip(weights).for_each(|(to, weight)| *to = (weight / sum) as f32);
        }
    }

    fn crop(&self, numbers: &mut Numbers, [height, width]: [f64; 2]) -> Map {
        let mut map = Map::IDENTITY;
        if let Some(padding @ 1..) = self.crop_padding {
            let mut offset = || numbers.below(2 * padding + 1) as f64 - padding as f64;
            map = Map::shift([offset(), offset()]);
        }
        if let Some(least) = self.crop_scale.filter(|share| *share < 1.0) {
            let area = numbers.between(least, 1.0) * height * width;
            // Of the aspect ratio of the image times 3:4 to 4:3, evenly on a scale of logarithms, where that fits.
            let ratio = (numbers.between((0.75f64).ln(), (4.0f64 / 3.0).ln())).exp() * width / height;
            let columns = (area * ratio).sqrt().min(width);
            let rows = (area / columns).min(height);
            let top = numbers.between(0.0, height - rows);
            let left = numbers.between(0.0, width - columns);
            let scale = [rows / height, columns / width];
            // The outer edges of the first pixels fall on each other, not their centres.
            let first = [top + 0.5 * scale[0] - 0.5, left + 0.5 * scale[1] - 0.5];
            map = map.after(Map::shift(first)).after(Map::scale(scale));
        }
        map
    }

    fn flip(&self, numbers: &mut Numbers, drawn: &Drawn<'_>, index: u32) -> Map {
        let mut mirrored = [self.vertical_flip, self.horizontal_flip].map(|on| on == Some(true) && numbers.chance(0.5));
        if self.alternating_flip == Some(true) {
            // By a hash of the seed and the image: which half is mirrored first.
            let first = Numbers::new([drawn.clock[0], index], None).chance(0.5);
            mirrored[1] = first ^ !drawn.epoch.is_multiple_of(2);
        }
        let last = [drawn.size[0], drawn.size[1]].map(|extent| extent as f64 - 1.0);
        let axis = |at: usize| if mirrored[at] { (-1.0, last[at]) } else { (1.0, 0.0) };
        let ((rows, first_row), (columns, first_column)) = (axis(0), axis(1));
        Map([[rows, 0.0, first_row], [0.0, columns, first_column]])
    }

    /// Partners, shares and boxes.
    fn mix(&self, drawn: &Drawn<'_>, numbers: &mut [Numbers], draws: &mut Draws) {
        let batch = drawn.indices.len();
        // Each image has another partner: the one so many places on.
        let away = match drawn.real {
            0 | 1 => 0,
            real => 1 + Numbers::new(drawn.clock, None).below(real - 1),
        };
        let partner = |at: usize| if at < drawn.real { (at + away) % drawn.real } else { at };
        let (mut mixes, mut shares) = (Vec::new(), Vec::new());
        for (at, numbers) in numbers.iter_mut().enumerate() {
            let mut mix = [0.0f32; MIX];
            mix[0] = partner(at) as f32;
            let (own, pasted, share) = self.share(numbers, drawn.size);
            mix[1] = own as f32;
            mix[2..6].copy_from_slice(&pasted.map(|place| place as f32));
            mix[6..].copy_from_slice(&self.erased(numbers, drawn.size).map(|place| place as f32));
            mixes.extend(mix);
            shares.push(if away == 0 { 1.0 } else { share as f32 });
        }
        draws.feeds.push((MIXES, Tensor::f32([batch, MIX], mixes)));
        if self.mixes_labels() {
            draws.feeds.push((SHARES, Tensor::f32([batch], shares)));
            draws.partners = Some((0..batch).map(partner).collect());
        }
    }

    /// Share of an image in the mean with its partner, the box that is its partner's, and its share in the label.
    fn share(&self, numbers: &mut Numbers, [height, width, _]: [usize; 3]) -> (f64, [f64; 4], f64) {
        let positive = |shape: Option<f64>| shape.filter(|shape| *shape > 0.0);
        let (mixup, cutmix) = match (positive(self.mixup), positive(self.cutmix)) {
            (Some(mixup), Some(_)) if numbers.chance(0.5) => (Some(mixup), None),
            (Some(_), Some(cutmix)) => (None, Some(cutmix)),
            one => one,
        };
        match (mixup, cutmix) {
            (Some(shape), _) => {
                let own = numbers.beta(shape);
                (own, [0.0; 4], own)
            }
            (None, Some(shape)) => {
                let side = (1.0 - numbers.beta(shape)).sqrt();
                let mut range = |extent: usize| {
                    let half = (side * extent as f64).floor() / 2.0;
                    let centre = numbers.below(extent) as f64;
                    let bounded = |place: f64| place.round().clamp(0.0, extent as f64);
                    (bounded(centre - half), bounded(centre + half))
                };
                let ((top, bottom), (left, right)) = (range(height), range(width));
                let area = (bottom - top) * (right - left) / (height * width) as f64;
                (1.0, [top, left, bottom, right], 1.0 - area)
            }
            (None, None) => (1.0, [0.0; 4], 1.0),
        }
    }

    /// The box that is erased (Zhong et al. 2017).
    fn erased(&self, numbers: &mut Numbers, [height, width, _]: [usize; 3]) -> [f64; 4] {
        if !numbers.chance(self.erasing.unwrap_or_default()) {
            return [0.0; 4];
        }
        let [height, width] = [height, width].map(|extent| extent as f64);
        let area = numbers.between(0.02, 0.33) * height * width;
        let ratio = numbers.between((0.3f64).ln(), (3.3f64).ln()).exp();
        let rows = (area * ratio).sqrt().round().clamp(1.0, height);
        let columns = (area / rows).round().clamp(1.0, width);
        let top = numbers.below((height - rows) as usize + 1) as f64;
        let left = numbers.below((width - columns) as usize + 1) as f64;
        [top, left, top + rows, left + columns]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Preset;

    const SIZE: [usize; 3] = [8, 12, 3];

    fn draw(augmentation: &Augmentation, step: u32, epoch: u64) -> Draws {
        let indices: Vec<u32> = (100..164).collect();
        augmentation.draw(&Drawn { clock: [7, step], epoch, indices: &indices, real: 61, size: SIZE })
    }

    fn feed(draws: &Draws, name: &str) -> Vec<f32> {
        let found = draws.feeds.iter().find(|(given, _)| *given == name);
        found.and_then(|(_, tensor)| tensor.as_f32()).unwrap().to_vec()
    }

    fn maps(augmentation: &Augmentation) -> Vec<[f32; 6]> {
        let all = feed(&draw(augmentation, 1, 0), MAPS);
        all.chunks_exact(6).map(|map| map.try_into().unwrap()).collect()
    }

    #[test]
    fn a_step_draws_the_same_again_and_another_step_does_not() {
        let strong = Augmentation { preset: Some(Preset::Strong), ..Augmentation::default() }.resolved(SIZE);
        assert_eq!(draw(&strong, 1, 0), draw(&strong, 1, 0));
        assert_ne!(draw(&strong, 1, 0), draw(&strong, 2, 0));
        assert_eq!(
            Augmentation::default().draw(&Drawn { clock: [1, 1], epoch: 0, indices: &[1, 2], real: 2, size: SIZE }),
            Draws { feeds: Vec::new(), partners: None }
        );
    }

    #[test]
    fn shifts_are_within_their_ranges_and_about_even() {
        let augmentation =
            Augmentation { width_shift_range: Some(0.25), height_shift_range: Some(2.0), ..Augmentation::default() };
        let maps = maps(&augmentation);
        for (at, most) in [(2, 2.0), (5, 3.0)] {
            let places: Vec<f32> = maps.iter().map(|map| map[at]).collect();
            assert!(places.iter().all(|x| x.abs() <= most), "{places:?}");
            let (low, high) = (places.iter().copied().fold(0.0, f32::min), places.iter().copied().fold(0.0, f32::max));
            assert!(low < -0.7 * most && high > 0.7 * most, "{low} to {high} of {most}");
        }
        assert!(maps.iter().all(|map| [map[0], map[1], map[3], map[4]] == [1.0, 0.0, 0.0, 1.0]));
    }

    /// Keras's matrix for theta = 20, tx = 2, ty = -1, shear = 10, zx = 1.1, zy = 0.8 of an 8 x 12 image:
    /// `rotation . shift . shear . zoom` about `(h / 2 - 0.5, w / 2 - 0.5)`, by numpy.
    #[test]
    fn maps_are_those_of_keras() {
        let mut draw = Draw { height_width: [8.0, 12.0], map: Map::IDENTITY, look: SAME_LOOK };
        draw.rotate(20.0);
        draw.shift([2.0 / 8.0, -1.0 / 12.0]);
        let (sin, cos) = 10f64.to_radians().sin_cos();
        draw.map = draw.map.after(Map([[1.0, -sin, 0.0], [0.0, cos, 0.0]])).after(Map::scale([1.1, 0.8]));
        let centre = Map::shift([3.5, 5.5]).after(draw.map).after(Map::shift([-3.5, -5.5]));
        let want =
            [1.0336618828644994, -0.4, 4.303588794871737, 0.37622215765823563, 0.692820323027551, 0.11705833741007332];
        for (got, want) in centre.0.as_flattened().iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{:?}", centre.0);
        }
    }

    #[test]
    fn each_image_is_mirrored_in_every_other_epoch() {
        let augmentation = Augmentation { alternating_flip: Some(true), ..Augmentation::default() };
        let signs = |step, epoch| -> Vec<f32> {
            feed(&draw(&augmentation, step, epoch), MAPS).chunks_exact(6).map(|map| map[4]).collect()
        };
        let (first, second) = (signs(1, 0), signs(9, 1));
        assert!(first.iter().zip(&second).all(|(a, b)| *a == -b));
        assert_eq!(signs(30, 2), first);
        let mirrored = first.iter().filter(|sign| **sign < 0.0).count();
        assert!((16..=48).contains(&mirrored), "{mirrored} of 64");
    }

    #[test]
    fn crops_stay_inside_of_the_image() {
        let augmentation = Augmentation { crop_scale: Some(0.2), ..Augmentation::default() };
        for [rows, _, top, _, columns, left] in maps(&augmentation) {
            assert!(rows <= 1.0 && columns <= 1.0 && rows * columns > 0.1);
            let last = (top + rows * 7.0, left + columns * 11.0);
            assert!(top >= -0.5 && left >= -0.5 && last.0 <= 7.5 && last.1 <= 11.5, "{top} {left} {last:?}");
        }
        let padded = Augmentation { crop_padding: Some(3), ..Augmentation::default() };
        let offsets: std::collections::BTreeSet<i32> = maps(&padded).iter().map(|map| map[2] as i32).collect();
        assert_eq!(offsets.into_iter().collect::<Vec<_>>(), [-3, -2, -1, 0, 1, 2, 3]);
    }

    #[test]
    fn labels_are_mixed_by_the_area_of_the_box() {
        let augmentation = Augmentation { cutmix: Some(1.0), ..Augmentation::default() };
        let draws = draw(&augmentation, 3, 0);
        let (mixes, shares) = (feed(&draws, MIXES), feed(&draws, SHARES));
        let partners = draws.partners.unwrap();
        let mut distinct = std::collections::BTreeSet::new();
        for (at, (mix, share)) in mixes.chunks_exact(MIX).zip(shares).enumerate() {
            assert_eq!((mix[0] as usize, mix[1]), (partners[at], 1.0));
            let area = (mix[4] - mix[2]) * (mix[5] - mix[3]) / 96.0;
            assert!((1.0 - area - share).abs() < 1e-6, "{mix:?} {share}");
            assert!(at >= 61 || (partners[at] != at && partners[at] < 61));
            distinct.insert(area.to_bits());
        }
        assert!(distinct.len() > 10);
    }
}
