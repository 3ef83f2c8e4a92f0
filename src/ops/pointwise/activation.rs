//! Activations.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use super::Pointwise;
use crate::{
    graph::{Graph, GraphError, Value},
    kernel::Expr,
};

fn x() -> Expr {
    Expr::Input(0)
}

/// The output, as derivatives name it.
fn y() -> Expr {
    Expr::Input(1)
}

impl Graph {
    fn activation(&mut self, name: &str, value: Value, expr: Expr, derivative: Expr) -> Result<Value, GraphError> {
        self.apply1(Pointwise::new(name, 1, expr).with_derivatives([Some(derivative)]), &[value])
    }

    /// Rectified linear unit, `max(x, 0)`.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16; likewise for the other activations.
    pub fn relu(&mut self, value: Value) -> Result<Value, GraphError> {
        self.activation("relu", value, x().max(0.0), y().select(1.0, 0.0))
    }

    /// `x` where positive, else `slope * x`.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn leaky_relu(&mut self, value: Value, slope: f64) -> Result<Value, GraphError> {
        self.activation("leaky_relu", value, x().select(x(), x() * slope), x().select(1.0, slope))
    }

    /// `min(max(x, 0), 6)` (Howard et al. 2017).
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn relu6(&mut self, value: Value) -> Result<Value, GraphError> {
        let inside = (y() * (Expr::from(6.0) - y())).select(1.0, 0.0);
        self.activation("relu6", value, x().max(0.0).min(6.0), inside)
    }

    /// Logistic function, `1 / (1 + e^-x)`.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn sigmoid(&mut self, value: Value) -> Result<Value, GraphError> {
        self.activation("sigmoid", value, x().sigmoid(), y() * (Expr::from(1.0) - y()))
    }

    /// Hyperbolic tangent.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn tanh(&mut self, value: Value) -> Result<Value, GraphError> {
        self.activation("tanh", value, x().tanh(), Expr::from(1.0) - y() * y())
    }

    /// Sigmoid linear unit, `x * sigmoid(x)` (Elfwing et al. 2017), also known as swish.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn silu(&mut self, value: Value) -> Result<Value, GraphError> {
        let s = x().sigmoid();
        let derivative = s.clone() * (Expr::from(1.0) + x() * (Expr::from(1.0) - s));
        self.activation("silu", value, x() * x().sigmoid(), derivative)
    }

    /// Gaussian error linear unit, `x/2 * (1 + erf(x / sqrt(2)))` (Hendrycks and Gimpel 2016).
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn gelu(&mut self, value: Value) -> Result<Value, GraphError> {
        let cdf = (Expr::from(1.0) + (x() * FRAC_1_SQRT_2).erf()) * 0.5;
        let density = (x() * x() * -0.5).exp() * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0);
        self.activation("gelu", value, x() * cdf.clone(), cdf + x() * density)
    }

    /// [`Graph::gelu`] by its approximation `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn gelu_tanh(&mut self, value: Value) -> Result<Value, GraphError> {
        let slope = (2.0 / PI).sqrt();
        let t = |x: Expr| ((x.clone() + x.clone() * x.clone() * x * 0.044715) * slope).tanh();
        // Beyond 10 the derivative is 0 or 1 to the last bit; x^2 would overflow.
        let x_near = x().max(-10.0).min(10.0);
        let t_near = t(x_near.clone());
        let inner = (Expr::from(1.0) + x_near.clone() * x_near.clone() * (3.0 * 0.044715)) * slope;
        let derivative = (Expr::from(1.0) + t_near.clone()) * 0.5
            + x_near * 0.5 * (Expr::from(1.0) - t_near.clone() * t_near) * inner;
        self.activation("gelu_tanh", value, x() * 0.5 * (Expr::from(1.0) + t(x())), derivative)
    }

    /// `min(max(x + 3, 0), 6) / 6` (Courbariaux et al. 2015, with the slope of Howard et al. 2019).
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn hard_sigmoid(&mut self, value: Value) -> Result<Value, GraphError> {
        let slope = (Expr::from(3.0) - x()).select(1.0 / 6.0, 0.0);
        let derivative = (x() + 3.0).select(slope, 0.0);
        self.activation("hard_sigmoid", value, (x() + 3.0).max(0.0).min(6.0) * (1.0 / 6.0), derivative)
    }

    /// `x * min(max(x + 3, 0), 6) / 6` (Howard et al. 2019).
    ///
    /// # Errors
    /// If the input does not hold f32 or f16.
    pub fn hard_swish(&mut self, value: Value) -> Result<Value, GraphError> {
        let gate = (x() + 3.0).max(0.0).min(6.0) * (1.0 / 6.0);
        let between = x() * (1.0 / 3.0) + 0.5;
        let derivative = (x() + 3.0).select((x() - 3.0).select(1.0, between), 0.0);
        self.activation("hard_swish", value, x() * gate, derivative)
    }
}
