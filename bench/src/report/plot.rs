//! The costs of the main group as a plot that is readable on a light and on a dark page.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle,
    SVGBackend, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoTextStyle, TextStyle};

use crate::report::Report;
use crate::settings::MAIN;
use crate::summary::Summary;
use crate::variant::BARE;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure = DrawingAreaErrorKind<std::io::Error>;

const WIDTH: i32 = 960;
/// Columns for the names.
const NAMES: i32 = 390;
/// Columns behind the longest bar, for its value.
const VALUES: i32 = 70;
const HEAD: i32 = 48;
const ROW: i32 = 26;
const FOOT: i32 = 36;
const BAR: i32 = 16;
const FONT: &str = "sans-serif";
const FILTER: RGBColor = RGBColor(0x1c, 0x7c, 0x54);
const NATIVE: RGBColor = RGBColor(0x5b, 0x6b, 0xc0);
const OTHER: RGBColor = RGBColor(0x8a, 0x8a, 0x8a);
const GRID: RGBColor = RGBColor(0xd8, 0xd8, 0xd8);

/// The plot; `None` when the main group was not measured.
pub(super) fn svg(report: &Report) -> Result<Option<String>> {
    let rows: Vec<&Summary> = report.summaries.iter().filter(|one| one.group == MAIN && one.variant != BARE).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let height = HEAD + ROW * i32::try_from(rows.len())? + FOOT;
    let mut svg = String::new();
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    draw(&area, &rows, height).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    drop(area);
    Ok(Some(svg))
}

fn draw(area: &Area<'_>, rows: &[&Summary], height: i32) -> Result<(), Failure> {
    // A page may be dark; the plot brings its own paper.
    area.fill(&WHITE)?;
    let title = "Processor time of one request over Envoy alone, µs (median, and quartiles as a line)";
    area.draw(&Text::new(title, (16, 16), style(16, HPos::Left)))?;
    let scale = Scale::of(rows);
    for value in scale.ticks() {
        let x = scale.x(f64::from(value));
        area.draw(&PathElement::new([(x, HEAD - 6), (x, height - FOOT)], GRID))?;
        area.draw(&Text::new(value.to_string(), (x, height - FOOT + 14), style(13, HPos::Center)))?;
    }
    for (row, number) in rows.iter().zip(0..) {
        draw_row(area, row, &scale, HEAD + ROW / 2 + ROW * number)?;
    }
    area.present()
}

/// The name, the bar, the quartiles and the value of one variant around the line `y`.
fn draw_row(area: &Area<'_>, row: &Summary, scale: &Scale, y: i32) -> Result<(), Failure> {
    let spread = &row.over_bare_us;
    let [end, q1, q3] = [spread.median, spread.q1, spread.q3].map(|value| scale.x(value));
    let bar = [(scale.x(0.0), y - BAR / 2), (end, y + BAR / 2)];
    area.draw(&Rectangle::new(bar, color(row).filled()))?;
    area.draw(&PathElement::new([(q1, y), (q3, y)], BLACK.stroke_width(2)))?;
    area.draw(&Text::new(row.title.as_str(), (NAMES - 10, y), style(14, HPos::Right)))?;
    area.draw(&Text::new(format!("{:.1}", spread.median), (end.max(q3) + 8, y), style(14, HPos::Left)))
}

fn style<'a>(size: i32, side: HPos) -> TextStyle<'a> {
    (FONT, size).into_font().into_text_style(&(0, 0)).pos(Pos::new(side, VPos::Center))
}

fn color(row: &Summary) -> RGBColor {
    if row.variant.starts_with("filter") {
        FILTER
    } else if row.variant.starts_with("otel") {
        NATIVE
    } else {
        OTHER
    }
}

/// From microseconds to columns.
struct Scale {
    most: f64,
}

impl Scale {
    fn of(rows: &[&Summary]) -> Self {
        Self { most: rows.iter().map(|row| row.over_bare_us.q3.max(row.over_bare_us.median)).fold(1.0, f64::max) }
    }

    fn x(&self, value: f64) -> i32 {
        let columns = f64::from(WIDTH - NAMES - VALUES) * (value.max(0.0) / self.most);
        #[expect(clippy::cast_possible_truncation, reason = "columns lie within the width")]
        let columns = columns as i32;
        NAMES + columns
    }

    /// Round values along the axis, about five of them.
    fn ticks(&self) -> Vec<u32> {
        let step =
            [1, 2, 5, 10, 20, 50, 100].into_iter().find(|step| self.most / f64::from(*step) <= 8.0).unwrap_or(200_u32);
        (0..).map(|tick| tick * step).take_while(|tick| f64::from(*tick) <= self.most).collect()
    }
}
