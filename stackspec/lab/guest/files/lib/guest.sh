# Functions of the boot scripts; kept apart from them so that they can be tried on any machine.
export PATH=/bin:$PATH

# say TEXT: to the serial console (what the console log keeps) and to the screen (what VNC shows).
say() {
  echo "$*" >/dev/console
  echo "$*" >/dev/tty1
}

uptime_s() {
  cut -d' ' -f1 /proc/uptime
}

# meta_value NAME FILE: a text value of meta_data.json. The last one counts: user properties ("meta") stand first.
meta_value() {
  tr -d '\n' <"$2" | sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"
}

# meta_keys FILE: the public keys of meta_data.json, each once ("public_keys" and "keys" both list them).
meta_keys() {
  tr '"' '\n' <"$1" | grep -E '^(ssh|ecdsa|sk)-[^ ]* ' | sed 's/\\n//g' | sort -u
}
