# Images: an OCI archive becomes runnable here only after every blob that its manifest names has been hashed
# here. The file images/<manifest digest> then holds the id by which podman runs exactly those bytes.

is_verified() {
    [ -s "$IMAGES/$1" ] || return 1
    verified_id=$(cat "$IMAGES/$1")
    ${req_podman} image inspect --format '{{.Id}} {{range .RepoDigests}}{{.}} {{end}}' "$verified_id" 2>/dev/null |
        grep "^$verified_id " | grep -q "@sha256:$1 "
}

want_image() {
    is_token "${req_image:-}" || fail bad-request "image must be 64 hex digits"
}

op_image_state() {
    want_image
    is_verified "$req_image" && say image verified || say image absent
}

# op_image_put: read the archive that follows the request, verify it and load it.
op_image_put() {
    want_image
    is_whole "${req_size:-}" || fail bad-request "size must be a whole number"
    incoming=$IMAGES/.incoming.$$
    # Podman names what it loads after the folder, as it is given, and takes small letters only.
    layout=$incoming/cb-image-$(printf '%s' "$req_image" | cut -c 1-24)
    trap 'rm -rf "$incoming"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -p "$layout" || fail storage "cannot write to $IMAGES"
    head -c "$req_size" >"$layout.tar" && tar -C "$layout" -xf "$layout.tar"
    unpacked=$?
    arrived=$(wc -c <"$layout.tar")
    rm -f "$layout.tar"
    [ "$arrived" -eq "$req_size" ] || fail cut-short "the archive was cut short at $arrived of $req_size bytes"
    [ $unpacked -eq 0 ] || fail storage "cannot unpack the archive under $IMAGES: is the disk full?"
    verify_layout "$layout" "$req_image"
    load_layout "$layout" "$req_image"
}

# verify_layout DIR DIGEST: hash the manifest, and every blob that those bytes name.
verify_layout() {
    blobs=$1/blobs/sha256
    manifest=$blobs/$2
    [ -f "$manifest" ] || fail image "the archive has no manifest sha256:$2"
    for digest in $2 $(grep -o 'sha256:[0-9a-f]\{64\}' "$manifest" | cut -d : -f 2 | sort -u); do
        [ -f "$blobs/$digest" ] && [ ! -L "$blobs/$digest" ] || fail image "the archive lacks blob sha256:$digest"
        [ "$(sha256sum <"$blobs/$digest" | cut -d ' ' -f 1)" = "$digest" ] ||
            fail image "the bytes of blob sha256:$digest do not match their digest"
    done
    is_token "${req_image_config:-}" && grep -q "sha256:$req_image_config" "$manifest" ||
        fail image "the manifest does not name the config that the bridge read from it"
}

# load_layout DIR DIGEST: hand podman a layout that names the verified manifest and nothing else.
load_layout() {
    printf '{"imageLayoutVersion":"1.0.0"}\n' >"$1/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s","digest":"sha256:%s","size":%s}]}\n' \
        application/vnd.oci.image.manifest.v1+json "$2" "$(wc -c <"$1/blobs/sha256/$2")" >"$1/index.json"
    loaded=$(cd "$incoming" && $req_podman pull --quiet "oci:${1##*/}" 2>"$1/said") || fail image "podman cannot load it: $(brief <"$1/said")"
    [ "$loaded" = "$req_image_config" ] || fail image "podman loaded another image than the one verified"
    printf '%s\n' "$loaded" | put "$IMAGES/$2" || fail storage "cannot write to $IMAGES"
    is_verified "$2" || fail image "podman does not know the digest of what it loaded"
    say image verified
}
