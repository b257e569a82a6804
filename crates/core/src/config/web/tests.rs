use super::*;

const HASH: &str = "$2y$10$abcdefghijklmnopqrstuvABCDEFGHIJKLMNOPQRSTUVWXYZ01234";

fn parse(text: &str) -> Result<WebConfig, String> {
    WebConfig::parse(text, Path::new("/etc/web")).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(WebConfigError::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn an_empty_file_asks_for_nothing() {
    assert_eq!(parse("").unwrap(), WebConfig::default());
    assert_eq!(parse("tls_server_config:\n").unwrap(), WebConfig::default());
}

#[test]
fn files_are_found_beside_the_web_config() {
    let tls = "tls_server_config: {cert_file: tls.crt, key_file: /keys/tls.key}";
    let tls = parse(tls).unwrap().tls.unwrap();
    assert_eq!(tls.certificate, Pem::File("/etc/web/tls.crt".into()));
    assert_eq!(tls.key, Pem::File("/keys/tls.key".into()));
    assert_eq!(
        (tls.least, tls.most),
        (TlsVersion::Tls12, TlsVersion::Tls13)
    );
    assert_eq!(tls.client_auth, ClientAuth::None);
}

#[test]
fn everything_that_the_format_has_is_read() {
    let text = format!(
        "tls_server_config:\n  cert: A\n  key: B\n  client_ca: C\n  \
         client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\n  \
         cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA]\n  \
         curve_preferences: [CurveP256]\n  prefer_server_cipher_suites: false\n\
         http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    \
         Strict-Transport-Security: max-age=1\n\
         rate_limit: {{interval: 1s, burst: 3}}\n\
         basic_auth_users:\n  prometheus: {HASH}\n"
    );
    let config = parse(&text).unwrap();
    let tls = config.tls.as_ref().unwrap();
    let secret = |text: &str| Pem::Text(Secret(text.to_owned()));
    assert_eq!(tls.client_auth, ClientAuth::Required(secret("C")));
    assert_eq!(tls.least, TlsVersion::Tls13);
    assert_eq!(tls.suites, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert!(!tls.server_chooses);
    let frame = ("X-Frame-Options", "deny".to_owned());
    assert_eq!(config.headers[0], frame);
    assert_eq!(config.rate_limit.unwrap().burst, 3);
    assert_eq!(config.users["prometheus"].reveal(), HASH);
    assert!(config.remarks[0].contains("TLS_RSA_WITH_AES_128_CBC_SHA"));
    assert!(
        !format!("{config:?}").contains("2y$10"),
        "no secret is shown"
    );
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text =
        "tls_server_config:\n  cert_file: a\n  keyfile: b\nbasic_auth_users:\n  me: secret\n";
    let errors = parse(text).unwrap_err();
    for words in [
        "line 3 column 3: there is no key \"keyfile\" in tls_server_config; did you mean \"key_file\"?",
        "line 2 column 3: tls_server_config: key_file or key is missing",
        "line 5 column 7: basic_auth_users.me: expected a bcrypt hash",
    ] {
        assert!(errors.contains(words), "{words} is missing in\n{errors}");
    }
    assert!(!errors.contains("secret"), "{errors}");
}

#[test]
fn what_would_leave_the_door_open_is_refused() {
    let tls = |more: &str| {
        parse(&format!(
            "tls_server_config: {{cert_file: a, key_file: b, {more}}}"
        ))
    };
    for more in [
        "client_auth_type: RequireAnyClientCert",
        "client_auth_type: RequireAndVerifyClientCert",
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: c",
        "client_allowed_sans: [me]",
        "max_version: TLS11",
        "min_version: TLS13, max_version: TLS12",
        "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]",
        "Cert_File: b",
    ] {
        assert!(tls(more).is_err(), "{more}");
    }
    for text in [
        "tls_server_config: {client_auth_type: NoClientCert}",
        "basic_auth_users: everybody",
        "basic_auth_users: {me: }",
        "basic_auth_user: {}",
        "http_server_config: {headers: {X-Frame-Options: allow}}",
        "---\n---\nbasic_auth_users: {}",
        "not: [yaml",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_hash_is_one_of_bcrypt_with_a_cost_that_can_be_borne() {
    assert!(shape::is_hash(HASH));
    for bad in [
        "",
        "password",
        "$1$10$abc",
        &HASH.replace("$10$", "$03$"),
        &HASH.replace("$10$", "$19$"),
        &HASH.replace("$10$", "$+9$"),
        &HASH[..59],
        &format!("{HASH}a"),
        &HASH.replace('Z', "!"),
    ] {
        assert!(!shape::is_hash(bad), "{bad}");
    }
}
