use std::fmt;

/// A table as text: columns as wide as their widest cell, two spaces apart. A column that has nothing but `-` in every
/// row is left out.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    head: [String; N],
    left: [bool; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table of columns of these names. Numbers stand at the right; a column whose name begins with `<` is text and
    /// stands at the left.
    pub fn new(head: [&str; N]) -> Self {
        Self {
            head: head.map(|name| name.trim_start_matches('<').to_string()),
            left: head.map(|name| name.starts_with('<')),
            rows: Vec::new(),
        }
    }

    /// The rows so far.
    pub fn cells(&self) -> &[[String; N]] {
        &self.rows
    }

    /// Adds a row, a cell a column.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let filled = |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| row[*column] != "-");
        let width = |column: usize| (column, rows().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let columns: Vec<(usize, usize)> = (0..N).filter(filled).map(width).collect();
        for row in rows() {
            let mut line = String::new();
            for &(column, width) in &columns {
                let cell = &row[column];
                line += &if self.left[column] { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with its thousands apart, such as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The end of a text of more than `length` characters: names of layers and paths differ there.
#[cfg(feature = "cli")]
pub(super) fn ending(text: &str, length: usize) -> String {
    let count = text.chars().count();
    if count <= length {
        return text.into();
    }
    format!("…{}", text.chars().skip(count + 1 - length).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "cli")]
    fn a_long_name_shows_its_end() {
        assert_eq!(ending("conv1.weight", 22), "conv1.weight");
        assert_eq!(ending("train/cat/1.jpg", 6), "…1.jpg");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["<name", "empty", "n"]);
        table.row(["a", "-", "10"].map(String::from));
        table.row(["longer", "-", "2"].map(String::from));
        assert_eq!(table.to_string(), "name     n\na       10\nlonger   2\n");
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
