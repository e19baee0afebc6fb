//! `docs/often-wrong.md` is a table for people, and other pages name cases too; this keeps them true.

/// The lines of the table: number and case ids.
fn lines(page: &str) -> Vec<(usize, Vec<&str>)> {
    page.lines()
        .filter_map(|line| {
            let mut cells = line.trim().strip_prefix('|')?.split('|').map(str::trim);
            let number = cells.next()?.parse().ok()?;
            let ids = cells.nth(1)?.split(',').map(str::trim);
            Some((number, ids.map(|id| id.trim_matches('`')).collect()))
        })
        .collect()
}

#[test]
fn each_line_has_cases_and_a_sabotage() {
    let file = crate::home::crate_folder().join("../docs/often-wrong.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let lines = lines(&page);
    assert_eq!(lines.len(), 32, "lines of {}", file.display());
    for (at, (number, ids)) in lines.into_iter().enumerate() {
        assert_eq!(number, at + 1, "lines are numbered in order");
        for id in ids {
            let case = crate::case::find(id);
            let case = case.unwrap_or_else(|| panic!("line {number}: there is no case {id}"));
            assert!(
                !case.sabotages.is_empty(),
                "line {number}: {id} cannot fail"
            );
        }
    }
}

#[test]
fn every_case_that_a_page_names_is_there_and_can_fail() {
    let folder = crate::home::crate_folder().join("../docs");
    let mut named = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let page = std::fs::read_to_string(&path).unwrap();
        // Every other piece stands between backticks.
        let ids = page.split('`').skip(1).step_by(2).filter(|text| {
            let area = text.split("::").next().unwrap_or_default();
            let is_id = text.contains("::s") && !text.contains(['*', '<', '{', ' ']);
            is_id && area.ends_with(|last: char| last.is_ascii_digit())
        });
        for id in ids {
            named += 1;
            let page = path.display();
            let case = crate::case::find(id);
            let case = case.unwrap_or_else(|| panic!("{page}: there is no case {id}"));
            assert!(!case.sabotages.is_empty(), "{page}: {id} cannot fail");
        }
    }
    assert!(named > 80, "only {named} were found");
}
