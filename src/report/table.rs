use std::fmt;

/// A table as text: columns as wide as their widest cell, two spaces apart.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<String>,
    left: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of columns of these names. Numbers stand at the right; a column whose name begins with `<` is text and
    /// stands at the left.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.iter().map(|name| name.trim_start_matches('<').to_string()).collect(),
            left: head.iter().map(|name| name.starts_with('<')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, a cell a column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.head.len()];
        for row in std::iter::once(&self.head).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, &width), left) in row.iter().zip(&widths).zip(&self.left) {
                line += &if *left { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["<name", "n"]);
        table.row(["a".to_string(), "10".to_string()]);
        table.row(["longer".to_string(), "2".to_string()]);
        assert_eq!(table.to_string(), "name     n\na       10\nlonger   2\n");
    }
}
