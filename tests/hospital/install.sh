#!/usr/bin/env bash
# The Debian packages that the hospital tests run: checkers and readers that are not ours, and an archive.
set -euo pipefail
missing=()
have() { command -v "$1" >/dev/null || missing+=("$2"); }
have dciodvfy dicom3tools
have plastimatch plastimatch
have storescu dcmtk
have Orthanc orthanc
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing+=(orthanc-dicomweb)
[ ${#missing[@]} -eq 0 ] && exit 0
root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
echo "installing ${missing[*]}"
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
