use super::*;

#[test]
fn settings_out_of_range_say_what_is_expected() {
    let config = DataPlaneConfig {
        queues: 0,
        ..DataPlaneConfig::default()
    };
    let error = config.check().unwrap_err().to_string();
    assert_eq!(error, "queues: expected 1 to 16, found 0");
}
