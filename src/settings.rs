//! Settings, each declared once by [`settings!`](crate::settings!).

use std::{
    fmt::Display,
    ops::{Bound, RangeBounds},
};

/// Declares a struct of settings, each with its documentation, flag, default and what it may be:
///
/// ```ignore
/// settings! {
///     /// How a model is trained.
///     #[command(next_help_heading = "Training")]
///     pub struct Recipe {
///         /// Images a step
///         #[arg(long, value_name = "N")]
///         pub batch_size: usize = 128, in 1..=MOST_IMAGES;
///     }
/// }
/// ```
///
/// The documentation is also the line of the help, and `arg` is clap's attribute, with `skip` for what has no flag.
/// `in` gives the range of a number, or of an optional one; `check` a function for anything else, from a reference to
/// a `Result<(), String>`. The struct gets serde's traits, `Default`, `check` and `ranges`, and with the feature `cli`
/// `clap::Args`.
#[doc(hidden)]
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $doc:literal])*
        $(#[command($($command:tt)*)])?
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $(#[arg($($arg:tt)*)])?
                $(#[command($($field_command:tt)*)])?
                $(#[serde($($serde:tt)*)])?
                pub $field:ident: $type:ty = $default:expr $(, in $range:expr)? $(, check $check:expr)?;
            )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        $(#[cfg_attr(feature = "cli", command($($command)*))])?
        pub struct $name {
            $(
                $(#[doc = $field_doc])*
                $(#[cfg_attr(feature = "cli", arg($($arg)*))])?
                $(#[cfg_attr(feature = "cli", command($($field_command)*))])?
                $(#[serde($($serde)*)])?
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $name {
            /// Checks that every setting is what it may be.
            ///
            /// # Errors
            /// With a message that names the setting, its value and the range.
            pub fn check(&self) -> Result<(), String> {
                $(
                    $($crate::settings::check(stringify!($field), &self.$field, &($range))?;)?
                    $(($check)(&self.$field)?;)?
                )*
                Ok(())
            }

            /// The settings that have a range.
            pub fn ranges() -> Vec<$crate::settings::Ranged> {
                let default = Self::default();
                vec![$($($crate::settings::Ranged::new(stringify!($field), &default.$field, &($range)),)?)*]
            }
        }
    };
}

/// A setting that has a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranged {
    /// Its name.
    pub name: &'static str,
    /// The values next to either end of the range that are outside of it.
    pub outside: Vec<String>,
}

impl Ranged {
    /// The setting `name`, whose range is that of `value`'s numbers.
    pub fn new<V: Value>(name: &'static str, _value: &V, range: &impl RangeBounds<V::Number>) -> Self {
        let below = match range.start_bound() {
            Bound::Included(least) => least.before(),
            Bound::Excluded(below) => Some(*below),
            Bound::Unbounded => V::Number::LEAST.before(),
        };
        let above = match range.end_bound() {
            Bound::Included(most) => most.after(),
            Bound::Excluded(above) => Some(*above),
            Bound::Unbounded => V::Number::MOST.after(),
        };
        Self { name, outside: [below, above].into_iter().flatten().map(|number| number.to_string()).collect() }
    }
}

/// Checks that a number is in its range, and one that a TOML file can hold; what is left out always is.
///
/// # Errors
/// With a message that names the setting, its value and the range.
pub fn check<V: Value>(name: &str, value: &V, range: &impl RangeBounds<V::Number>) -> Result<(), String> {
    let Some(number) = value.number() else { return Ok(()) };
    if range.contains(&number) && (V::Number::LEAST..=V::Number::MOST).contains(&number) {
        return Ok(());
    }
    let low = match range.start_bound() {
        Bound::Included(least) => format!("at least {least}"),
        Bound::Excluded(below) => format!("above {below}"),
        Bound::Unbounded => format!("at least {}", V::Number::LEAST),
    };
    let high = match range.end_bound() {
        Bound::Included(most) => format!("at most {most}"),
        Bound::Excluded(above) => format!("below {above}"),
        Bound::Unbounded => V::Number::UNBOUNDED.to_string(),
    };
    Err(format!("`{name}` is {number} and must be {low} and {high}"))
}

/// The range of numbers above `low`.
pub const fn above<T>(low: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// The range of numbers between `low` and `high`, neither of them included.
pub const fn between<T>(low: T, high: T) -> (Bound<T>, Bound<T>) {
    (Bound::Excluded(low), Bound::Excluded(high))
}

/// A setting's value that has a range: a number, or an optional one.
pub trait Value {
    /// The type of the number.
    type Number: Number;

    /// The number, where there is one.
    fn number(&self) -> Option<Self::Number>;
}

/// A number.
pub trait Number: Copy + PartialOrd + Display {
    /// The least that a TOML file can hold.
    const LEAST: Self;
    /// The most that a TOML file can hold.
    const MOST: Self;
    /// What a range without an upper end asks for.
    const UNBOUNDED: &str;

    /// The next smaller number.
    fn before(self) -> Option<Self>;

    /// The next larger number.
    fn after(self) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(
            impl Number for $type {
                const LEAST: Self = 0;
                const MOST: Self = i64::MAX as $type;
                const UNBOUNDED: &str = "at most 9223372036854775807";

                fn before(self) -> Option<Self> {
                    self.checked_sub(1)
                }

                fn after(self) -> Option<Self> {
                    self.checked_add(1)
                }
            }
        )*
    };
}

integers!(u64, usize);

impl Number for f64 {
    const LEAST: Self = f64::MIN;
    const MOST: Self = f64::MAX;
    const UNBOUNDED: &str = "finite";

    fn before(self) -> Option<Self> {
        Some(self.next_down())
    }

    fn after(self) -> Option<Self> {
        Some(self.next_up())
    }
}

impl<T: Number> Value for T {
    type Number = T;

    fn number(&self) -> Option<T> {
        Some(*self)
    }
}

impl<T: Number> Value for Option<T> {
    type Number = T;

    fn number(&self) -> Option<T> {
        *self
    }
}
