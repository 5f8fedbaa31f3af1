//! What was measured, and whether it is what it has to be.

use serde::{Deserialize, Serialize};

use super::measure::{load, number, rounded};

/// A figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What it is of.
    pub(crate) name: String,
    /// At how many Models.
    pub(crate) models: usize,
    /// How much it is; nothing where it could not be measured.
    pub(crate) value: Option<f64>,
    /// Of what.
    pub(crate) unit: String,
    /// What it has to be.
    pub(crate) bar: Option<Bar>,
    /// The load of the machine when it was taken.
    pub(crate) load: String,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// How much more a Model may cost among the most than among the fewest.
const GROWTH: f64 = 1.3;
/// Below this, differences are the kernel's and the clock's, in whatever unit: a hundredth of a core, 0.01 requests.
const NOISE: f64 = 0.01;

/// What is to be compared between sizes, and whether it is of one Model or of all.
const COMPARED: [(&str, bool); 9] = [
    ("time until all are Programmed", true),
    ("requests per Model until quiet", false),
    ("annotation to HTTPRoute, idle, p50", false),
    ("annotation to HTTPRoute, idle, p99", false),
    ("repair of a deleted object, p99", false),
    ("resident memory, steady", true),
    ("resident memory, peak of the lists", true),
    ("idle CPU", true),
    ("restart until ready", true),
];

impl Figure {
    /// Of now.
    pub(crate) fn new(
        name: &str,
        models: usize,
        value: impl Into<Option<f64>>,
        unit: &str,
    ) -> Self {
        Self {
            name: name.to_owned(),
            models,
            value: value.into().map(rounded),
            unit: unit.to_owned(),
            bar: None,
            load: load(),
        }
    }

    /// The same with a bar.
    pub(crate) fn bar(self, bar: Bar) -> Self {
        Self {
            bar: Some(bar),
            ..self
        }
    }

    /// Whether it is what it has to be; nothing where there is no bar.
    pub(crate) fn holds(&self) -> Option<bool> {
        let value = self.value;
        self.bar.map(|bar| match bar {
            Bar::AtLeast(least) => value.is_some_and(|value| value >= least),
            Bar::AtMost(most) => value.is_some_and(|value| value <= most),
        })
    }

    fn row(&self) -> [String; 6] {
        let bar = match self.bar {
            Some(Bar::AtLeast(least)) => format!(">= {}", rounded(least)),
            Some(Bar::AtMost(most)) => format!("<= {}", rounded(most)),
            None => String::new(),
        };
        let holds = match self.holds() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let value = self
            .value
            .map_or_else(|| "not measured".to_owned(), |value| value.to_string());
        [
            self.models.to_string(),
            self.name.clone(),
            format!("{value} {}", self.unit),
            bar,
            holds.to_owned(),
            self.load.clone(),
        ]
    }
}

/// What grows more than the number of Models does.
pub(crate) fn growth(figures: &[Figure]) -> Vec<Figure> {
    let sizes = || {
        figures
            .iter()
            .filter(|f| f.name == COMPARED[0].0)
            .map(|f| f.models)
    };
    let (Some(few), Some(many)) = (sizes().min(), sizes().max()) else {
        return Vec::new();
    };
    if few == many {
        return Vec::new();
    }
    let cost = |name: &str, models: usize, of_all: bool| {
        let figure = figures
            .iter()
            .find(|f| f.name == name && f.models == models)?;
        let value = figure.value?.max(NOISE);
        Some(if of_all {
            value / number(models)
        } else {
            value
        })
    };
    let compared = COMPARED.iter().filter_map(|(name, of_all)| {
        let grown = cost(name, many, *of_all)? / cost(name, few, *of_all)?;
        let name = format!("growth per Model from {few}: {name}");
        Some(Figure::new(&name, many, grown, "times").bar(Bar::AtMost(GROWTH)))
    });
    compared.collect()
}

/// All of them, in columns.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["Models", "figure", "measured", "bar", "holds", "load"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(figures.iter().map(Figure::row))
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_holds_or_not() {
        let figure = Figure::new("a", 1, 2.0, "s");
        assert_eq!(figure.holds(), None);
        assert_eq!(figure.clone().bar(Bar::AtMost(2.0)).holds(), Some(true));
        assert_eq!(figure.bar(Bar::AtLeast(2.1)).holds(), Some(false));
        let missing = Figure::new("a", 1, None, "s").bar(Bar::AtMost(2.0));
        assert_eq!(
            missing.holds(),
            Some(false),
            "what was not measured does not hold"
        );
    }

    #[test]
    fn what_grows_with_the_models_is_no_growth() {
        let of =
            |models, seconds| Figure::new("time until all are Programmed", models, seconds, "s");
        let grown = growth(&[of(1000, 10.0), of(10_000, 120.0)]);
        assert_eq!(grown.len(), 1);
        assert_eq!(grown[0].value, Some(1.2));
        assert_eq!(grown[0].holds(), Some(true));
        assert!(growth(&[of(1000, 10.0)]).is_empty());
    }
}
