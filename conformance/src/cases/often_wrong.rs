//! `docs/often-wrong.md` is a table for people; this keeps it true.

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
