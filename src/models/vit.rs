//! Vision transformers of patches of 16 pixels, and one with convolutions in front.

use super::blocks::ConvNorm;
use crate::{
    graph::{GraphError, Value},
    nn::{Activation, Builder, Conv2d, Dense, Init, Layer, LayerNorm, SelfAttention, layers::image},
    tensor::Shape,
};

/// Pixels that a token stands for, in each direction.
const PATCH: usize = 16;
const WEIGHTS: Init = Init::TruncatedNormal(0.02);
const NORM_EPSILON: f32 = 1e-6;

/// What makes tokens of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stem {
    /// One convolution over patches that do not overlap.
    Patches,
    /// Four 3x3 convolutions of stride 2 and a 1x1 convolution (Xiao et al. 2021).
    Convolutions,
}

/// Vision transformer (Dosovitskiy et al. 2021) in the sizes of Touvron et al. (2021): a class token, learned position
/// embeddings, and blocks that normalise first.
#[derive(Clone, Copy, Debug)]
struct VisionTransformer {
    stem: Stem,
    width: usize,
    depth: usize,
    heads: usize,
    classes: usize,
}

/// ViT-Ti.
pub fn tiny(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    Box::new(VisionTransformer { stem: Stem::Patches, width: 192, depth: 12, heads: 3, classes })
}

/// ViT-S.
pub fn small(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    Box::new(VisionTransformer { stem: Stem::Patches, width: 384, depth: 12, heads: 6, classes })
}

/// ViT-Ti with a stem of convolutions, which takes the place of one block.
pub fn tiny_conv(_input: [usize; 3], classes: usize) -> Box<dyn Layer> {
    Box::new(VisionTransformer { stem: Stem::Convolutions, width: 192, depth: 11, heads: 3, classes })
}

impl VisionTransformer {
    /// `[batch, tokens, width]` of images.
    fn tokens(&self, builder: &mut Builder<'_>, mut x: Value) -> Result<Value, GraphError> {
        let [batch, height, width, _] = image(builder, x)?;
        if !height.is_multiple_of(PATCH) || !width.is_multiple_of(PATCH) || height * width == 0 {
            let [rows, columns] = [height, width].map(|side| side.next_multiple_of(PATCH));
            return Err(builder.error(format!(
                "takes images whose sides are multiples of {PATCH} pixels, not {height} by {width}: give an image size of \
                 {rows}x{columns}"
            )));
        }
        let project = match self.stem {
            Stem::Patches => Conv2d::new(self.width, PATCH).stride(PATCH),
            Stem::Convolutions => {
                for at in 0..4 {
                    let conv = ConvNorm::new(self.width >> (3 - at), 3).stride(2).relu();
                    x = builder.layer(&format!("conv_bn_relu_{at}"), &conv, x)?;
                }
                Conv2d::new(self.width, 1)
            }
        };
        let x = builder.layer("proj", &project, x)?;
        builder.graph.reshape(x, [batch, (height / PATCH) * (width / PATCH), self.width])
    }

    /// `x + attention(norm(x))`, then likewise with two dense layers.
    fn block(&self, b: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let norm = LayerNorm::new(NORM_EPSILON);
        let y = b.layer("norm1", &norm, x)?;
        let y = b.layer("attn", &SelfAttention::new(self.heads).init(WEIGHTS), y)?;
        let x = b.graph.add(x, y)?;
        let y = b.layer("norm2", &norm, x)?;
        let hidden = Dense::new(4 * self.width).init(WEIGHTS).activation(Activation::Gelu);
        let y = b.layer("mlp.fc1", &hidden, y)?;
        let y = b.layer("mlp.fc2", &Dense::new(self.width).init(WEIGHTS), y)?;
        b.graph.add(x, y)
    }
}

impl Layer for VisionTransformer {
    fn forward(&self, builder: &mut Builder<'_>, x: Value) -> Result<Value, GraphError> {
        let x = builder.scoped("patch_embed", |b| self.tokens(b, x))?;
        let [batch, patches] = [builder.shape(x)[0], builder.shape(x)[1]];
        let class = builder.parameter("cls_token", [1, 1, self.width], WEIGHTS)?;
        let positions = builder.parameter("pos_embed", [1, patches + 1, self.width], WEIGHTS)?;
        let class = builder.graph.broadcast_to(class, &Shape::from([batch, 1, self.width]))?;
        let x = builder.graph.concat(&[class, x], 1)?;
        let mut x = builder.graph.add(x, positions)?;
        for at in 0..self.depth {
            x = builder.scoped(&format!("blocks.{at}"), |b| self.block(b, x))?;
        }
        // The norm is of each token by itself, and the logits read the class token alone.
        let class = builder.graph.slice(x, 1, 0..1)?;
        let class = builder.graph.reshape(class, [batch, self.width])?;
        let class = builder.layer("norm", &LayerNorm::new(NORM_EPSILON), class)?;
        builder.layer("head", &Dense::new(self.classes).init(WEIGHTS), class)
    }
}
