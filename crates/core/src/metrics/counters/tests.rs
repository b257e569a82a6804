use super::*;

fn names(counters: &Counters) -> Vec<&str> {
    let all = counters.counters().iter();
    all.map(|counter| counter.name.as_str()).collect()
}

#[test]
fn a_file_is_read_in_its_order_with_its_types_and_help() {
    let text = "# Format\n\n\
        DCGM_FI_DEV_GPU_TEMP,    counter, My words (in C).\n  \
        # indented\n\
        DCGM_FI_DEV_DEC_UTIL ,     gauge, \"Decoder, \"\"busy\"\" (in %).\"\r\n\
        DCGM_FI_DRIVER_VERSION, label, Driver Version\n\
        DCGM_FI_DEV_PSTATE, label, Performance state\n\
        DCGM_EXP_XID_ERRORS_COUNT, counter, reported XIDs\n";
    let counters = Counters::parse(text).unwrap();
    let expected = [
        (
            "DCGM_FI_DEV_GPU_TEMP",
            MetricKind::Counter,
            "My words (in C).",
        ),
        (
            "DCGM_FI_DEV_DEC_UTIL",
            MetricKind::Gauge,
            "Decoder, \"busy\" (in %).",
        ),
        (
            "DCGM_EXP_XID_ERRORS_COUNT",
            MetricKind::Counter,
            "reported XIDs",
        ),
    ];
    let read = counters.counters().iter();
    let read: Vec<_> = read
        .map(|counter| (counter.name.as_str(), counter.kind, counter.help.as_str()))
        .collect();
    assert_eq!(read, expected);
    let driver = TextField::DriverVersion;
    assert_eq!(
        counters.labels(),
        [
            (
                "DCGM_FI_DEV_PSTATE".to_owned(),
                LabelSource::Field(Field::Pstate)
            ),
            (driver.name().to_owned(), LabelSource::Text(driver)),
        ],
        "by name, as the exporter writes them"
    );
    assert!(counters.includes(ExporterCounter::XidErrors));
    assert!(!counters.includes(ExporterCounter::P2pStatus));
    assert_eq!(counters.remarks(), [""; 0]);
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "DCGM_FI_DEV_GPU_TEMP, gauge\n\
        # fine\n\
        DCGM_FI_DEV_SM_CLOCK, guage, help\n\
        DCGM FI, gauge, help\n\
        DCGM_FI_DEV_FB_USED, gauge, one, two\n\
        DCGM_FI_DEV_FB_FREE, gauge, \"open\n\
        DCGM_FI_DEV_FB_TOTAL, gauge, \"a\" b\n\
        DCGM_FI_DRIVER_VERSION, gauge, Driver Version\n\
        DCGM_EXP_P2P_STATUS, label, P2P\n\
        DCGM_FI_DEV_MEM_CLOCK, gauge, fine\n";
    let mistakes = Counters::parse(text).unwrap_err();
    let texts: Vec<String> = mistakes.iter().map(CounterMistake::to_string).collect();
    insta::assert_snapshot!(texts.join("\n"), @r#"
    line 1: expected `field, type, help`, found 2 columns; a help text with commas is written in quotes
    line 3: "guage" is no type; expected gauge, counter, histogram, summary or label
    line 4: "DCGM FI" is not the name of a field
    line 5: expected `field, type, help`, found 4 columns; a help text with commas is written in quotes
    line 6: a quote is not closed
    line 7: there is text after a closing quote
    line 8: DCGM_FI_DRIVER_VERSION is words, which can only be a label
    line 9: DCGM_EXP_P2P_STATUS is a number of its own and cannot be a label
    "#);
}

#[test]
fn what_is_odd_and_can_be_used_is_a_remark() {
    let text = "DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT, gauge, help\n\
        DCGM_FI_DEV_GPU_TEMP, histogram, help\n\
        DCGM_FI_DEV_GPU_TEMP, gauge, again\n";
    let counters = Counters::parse(text).unwrap();
    assert_eq!(names(&counters), ["DCGM_FI_DEV_GPU_TEMP"]);
    assert_eq!(counters.counters()[0].kind, MetricKind::Untyped);
    assert_eq!(
        counters.unknown(),
        ["DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT"]
    );
    insta::assert_snapshot!(counters.remarks().join("\n"), @r"
    line 1: DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT is no field that is known here; no series will have its name
    line 2: DCGM_FI_DEV_GPU_TEMP is one number, no histogram or summary; its type is left open
    line 3: DCGM_FI_DEV_GPU_TEMP was there before, and the first one counts
    ");
}

#[test]
fn an_empty_file_is_a_page_of_our_own_metrics() {
    let counters = Counters::parse("# nothing\n").unwrap();
    assert_eq!(names(&counters), [""; 0]);
    assert!(counters.wanted().fields.contains(Field::GpuUtil));
}

#[test]
fn names_of_all_versions_are_one_field_and_stay_what_they_are() {
    for (alias, field) in ALIASES {
        let counters = Counters::parse(&format!("{alias}, gauge, help")).unwrap();
        assert_eq!(names(&counters), [*alias]);
        assert_eq!(counters.counters()[0].source, Source::Field(*field));
        assert!(alias.parse::<Field>().is_err(), "{alias} is no alias");
    }
    let aliases: BTreeSet<&str> = ALIASES.iter().map(|(alias, _)| *alias).collect();
    assert_eq!(aliases.len(), ALIASES.len());
}

#[test]
fn xids_are_counted_and_not_asked_for() {
    let counters = Counters::default();
    assert!(names(&counters).contains(&"DCGM_FI_DEV_XID_ERRORS"));
    let wanted = counters.wanted();
    assert!(!wanted.fields.contains(Field::XidErrors));
    assert!(wanted.fields.contains(Field::DramActive));
    assert!(!wanted.fields.contains(Field::SmOccupancy));
    assert!(wanted.processes);
}
