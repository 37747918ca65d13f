//! The page as text: nothing is left out, and nothing escapes.

use netns_lab::report::{Expected, Report};

use crate::sample;

#[test]
fn every_cell_is_on_the_page_with_its_reason() {
    let report = sample::small();
    let html = report.html();
    for dialler in 0..3 {
        for listener in 0..3 {
            let id = format!("id=\"cell-0-{dialler}-{listener}\"");
            assert_eq!(html.matches(&id).count(), 1, "{id}");
        }
    }
    for cell in &report.series[0].cells {
        assert!(html.contains(&cell.reason), "{}", cell.reason);
    }
    assert!(html.contains("<a href=\"#ladder-0\">") && html.contains("id=\"ladder-0\""));
}

#[test]
fn the_work_list_has_all_that_failed_and_the_alarms_stand_apart() {
    let report = sample::small();
    let html = report.html();
    let (before, work) = html.split_once("<h2 id=\"work\">").unwrap();
    let work = work.split_once("</section>").unwrap().0;
    let alarms = before.split_once("<h2 id=\"alarms\">").unwrap().1;
    let alarms = alarms.split_once("</section>").unwrap().0;
    for cell in &report.series[0].cells {
        let Some(failure) = cell.failure.as_deref() else {
            continue;
        };
        let standing = cell.standing();
        assert_eq!(work.contains(failure), standing.is_work(), "{failure}");
        let is_alarm = standing.is_alarm();
        assert_eq!(alarms.contains(failure), is_alarm, "{failure}");
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let html = sample::small().html();
    for word in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn no_text_becomes_markup() {
    let evil = "<b>\"'&</script><!--";
    let mut report = sample::small();
    for text in [&mut report.title, &mut report.path] {
        *text = evil.into();
    }
    report.notes = vec![evil.into()];
    for kind in &mut report.kinds {
        (kind.name, kind.title) = (evil.into(), evil.into());
    }
    let mut second = report.series[0].clone();
    (second.name, second.ground) = (evil.into(), evil.into());
    for cell in &mut second.cells {
        (cell.reason, cell.failure) = (evil.into(), Some(evil.into()));
        cell.how = vec![(evil.into(), 1)];
        cell.successes = cell.successes.min(1);
    }
    report.series.push(second);
    let ladder = &mut report.ladders[0];
    ladder.title = evil.into();
    ladder.columns[0].name = evil.into();
    ladder.steps.push(sample::arrow(3_000, 0, 1, 3_001, evil));
    ladder.steps.push(sample::lost(3_000, 0, 1, evil, evil));
    ladder
        .steps
        .push(sample::note(3_002, 1, evil, netns_lab::report::Tone::Bad));
    let html = report.html();
    assert!(!html.contains("<!--") && !html.contains("<b>\""));
    assert_eq!(html.matches("</script>").count(), 1);
    assert!(
        html.matches("&lt;b&gt;&quot;&#39;&amp;&lt;/script&gt;&lt;!--")
            .count()
            > 30
    );
}

#[test]
fn indices_that_do_not_exist_and_empty_reports_are_harmless() {
    let mut report = sample::small();
    let mut cell = sample::cell(7, 8, 0, Expected::Chance(f64::NAN));
    cell.ladder = Some(9);
    report.series[0].cells.push(cell);
    let mut cell = sample::cell(9, 9, 0, Expected::Certain);
    cell.ladder = Some(9);
    report.series[0].cells.push(cell);
    assert!(report.html().contains("kind 9"));
    assert!(report.summary().contains("kind 9"));
    assert!(Report::default().html().contains("Empty"));
    assert!(Report::default().summary().contains("Work list: 0"));
}

#[test]
fn a_page_of_two_grounds_names_both_and_finds_the_diagrams_of_both() {
    let mut report = sample::small();
    report.title = "punch agent, virtual time, each pair once".into();
    let mut other = sample::small();
    other.title = "punch agent, namespaces, each pair once".into();
    other.ladders[0].title = "between kernels".into();
    report.join(other);
    assert_eq!(
        report.title,
        "punch agent, virtual time and namespaces, each pair once"
    );
    let html = report.html();
    let second = html.split_once("id=\"cell-1-0-2\"").unwrap().1;
    let (cell, _) = second.split_once("</td>").unwrap();
    assert!(cell.contains("href=\"#ladder-1\""), "{cell}");
    assert!(html.contains("<h3 id=\"ladder-1\">between kernels"));
}
